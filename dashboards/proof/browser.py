"""Opens the dashboard in Chromium, uses it, and prints what each chart showed and was sent, as JSON.

Run by the Python of Superset's environment, which has Playwright, with the address, user, password, Chromium and
folder for screenshots as arguments. Nothing of orcost is imported here.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, Response, sync_playwright

DASHBOARD = "/superset/dashboard/orcost/"
CHARTS = "[data-test='chart-grid-component']"
# All charts are in view: Superset loads the others only when they are scrolled to.
SIZE = {"width": 1600, "height": 3400}
# A filter that asks for its values, and a drill-down, have no id.
NO_CHART = 0
QUIET_SECONDS, PATIENCE_SECONDS = 2, 90


class Dashboard:
    """The page, and what the charts were sent since the last look: answers of the chart data API by chart id."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.sent: dict[int, list[Any]] = {}
        self.failures: list[str] = []
        self._open = 0
        self._last = time.monotonic()
        page.on("request", lambda request: self._count(request.url, 1))
        page.on("requestfailed", lambda request: self._count(request.url, -1))
        page.on("response", self._take)

    def log_in(self, user: str, password: str) -> None:
        """The first log-in after the start may fail while Superset still loads."""
        for attempt in range(3):
            try:
                self.page.goto(f"{self.address}/login/")
                self.page.fill("#username", user)
                self.page.fill("#password", password)
                self.page.click("button[type=submit]")
                self.page.wait_for_url("**/welcome/**", timeout=30_000)
            except Error:
                if attempt == 2:
                    raise
            else:
                return

    def open(self) -> None:
        self.page.goto(self.address + DASHBOARD)
        self.page.wait_for_selector(CHARTS, timeout=60_000)

    def choose_previous_month(self) -> None:
        """The range filter, as a person uses it."""
        self.page.get_by_text("Current month").first.click()
        popover = self.page.locator(".ant-popover:not(.ant-popover-hidden)")
        popover.locator("[data-test='Range type'] .ant-select-selector").click()
        self.page.locator(".ant-select-item-option", has_text="Previous").first.click()
        popover.locator("input[type=radio][value='previous calendar month']").check()
        self.page.locator("[data-test='date-filter-control__apply-button']").click()
        self.page.locator("[data-test='filter-bar__apply-button']").click()

    def choose_account(self) -> None:
        """The only one of a demo: what has no account is gone."""
        self.page.locator(".ant-select-selector", has_text="1 option").click()
        self.page.locator(".ant-select-item-option", has_text="default").click()
        self.page.locator("[data-test='filter-bar__apply-button']").click()

    def cell(self, chart: str, text: str) -> Any:
        return self.page.locator(f"[data-test-chart-name='{chart}'] tbody td", has_text=text).first

    def drill(self, cell: Any, column: str) -> list[dict[str, Any]]:
        """Right-click, drill by a column: the rows that the dialog was sent."""
        self.sent.clear()
        cell.click(button="right")
        self.page.get_by_role("menuitem", name="Drill by").last.hover()
        self.page.locator(".ant-popover:not(.ant-popover-hidden)").get_by_text(column, exact=True).last.click()
        self.wait()
        (rows, *_) = self.sent.popitem()[1]
        return rows

    def look(self, state: str) -> dict[str, Any]:
        """What is on the page: the text of each figure and table, and what each chart was sent since the last look."""
        self.wait()
        charts = [self._chart(element) for element in self.page.query_selector_all(CHARTS)]
        self.sent.clear()
        return {"state": state, "charts": charts}

    def wait(self) -> None:
        """Until all charts have their data and nothing was sent for a while."""
        end = time.monotonic() + PATIENCE_SECONDS
        self.page.wait_for_timeout(1000)
        while time.monotonic() < end:
            is_quiet = self._open == 0 and time.monotonic() - self._last > QUIET_SECONDS
            if is_quiet and not self.page.query_selector("[data-test='loading-indicator']"):
                return
            self.page.wait_for_timeout(250)
        raise TimeoutError("The dashboard is still loading.")

    def _chart(self, element: Any) -> dict[str, Any]:
        figure = element.query_selector(".header-line")
        return {
            "title": element.get_attribute("data-test-chart-name"),
            "sent": self.sent.get(int(element.get_attribute("data-test-chart-id"))),
            "is_figure": element.get_attribute("data-test-viz-type") == "big_number_total",
            "figure": figure.inner_text().strip() if figure else None,
            "rows": element.eval_on_selector_all("tbody tr", _CELLS),
            "totals": element.eval_on_selector_all("tfoot tr", _CELLS),
        }

    def _count(self, url: str, change: int) -> None:
        if "/api/v1/chart/data" in url:
            self._open += change
            self._last = time.monotonic()

    def _take(self, response: Response) -> None:
        if "/api/v1/chart/data" not in response.url:
            return
        answer = response.json()
        if response.ok:
            asked = (response.request.post_data_json or {}).get("form_data", {})
            self.sent[asked.get("slice_id") or NO_CHART] = [result["data"] for result in answer["result"]]
        else:
            self.failures.append(json.dumps(answer)[:500])
        self._count(response.url, -1)


_CELLS = "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.innerText.trim()))"


def use(dashboard: Dashboard, pictures: Path) -> dict[str, Any]:
    """This month; last month, by the filter and by a click; an account, a company and one of its keys; its models."""
    companies = "Companies: spend, change on a month earlier, forecast and budget, USD"
    charges = "Charge and margin by company and month, USD"
    dashboard.open()
    looks = [dashboard.look("this month")]
    page = dashboard.page
    page.screenshot(path=pictures / "superset.png")
    page.screenshot(path=pictures / "superset_top.png", clip={"x": 0, "y": 60, "width": 1600, "height": 1490})
    dashboard.choose_previous_month()
    looks.append(dashboard.look("last month"))
    month = dashboard.cell(charges, "-")
    month.click()
    looks.append(dashboard.look("last month, by a click on it"))
    month.click()
    dashboard.choose_account()
    looks.append(dashboard.look("last month of the account"))
    dashboard.cell(companies, "Company B").click()
    looks.append(dashboard.look("Company B in it"))
    gateway = dashboard.cell("API keys: spend in USD, requests, tokens", "Shared gateway")
    models = dashboard.drill(gateway, "Model")
    page.get_by_role("button", name="Close").last.click()
    gateway.click()
    looks.append(dashboard.look("its shared gateway"))
    return {"looks": looks, "models": models, "failures": dashboard.failures}


def main(address: str, user: str, password: str, chromium: str, pictures: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        dashboard = Dashboard(browser.new_page(viewport=SIZE), address)
        dashboard.log_in(user, password)
        print(json.dumps(use(dashboard, Path(pictures))))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
