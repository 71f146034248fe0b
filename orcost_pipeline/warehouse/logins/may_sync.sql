grant orcost_may_sync to {login}{option};
