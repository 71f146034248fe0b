"""Runs of many accounts on Celery workers: one worker beside several, and workers that are killed.

`programs` has the environment with Celery, `broker` a RabbitMQ of its own, `deployment` the services, the accounts and
what they spend, `figures` what is read from the warehouse and from the processes.
"""
