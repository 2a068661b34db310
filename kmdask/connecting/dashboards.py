"""Dask's dashboards, not imported before somebody looks at them.

Bokeh takes a third of a second to import, nearly all of the time in which a cluster within this
process starts. So its pages come with the first request for one, and only then the scheduler waits.
Workers in processes of their own have theirs from the beginning, as Dask's have.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import distributed
from tornado.web import Application

if TYPE_CHECKING:
    from distributed import LocalCluster
    from distributed.node import ServerNode


class OnDemand(Application):
    """Stands for the dashboard of a scheduler or a worker until there is a request for it.

    Parameters
    ----------
    node : distributed.Scheduler or distributed.Worker
        One that listens for requests, and has no dashboard.
    module : str
        Where Dask has the dashboard that goes with it.
    """

    def __init__(self, node: ServerNode, module: str) -> None:
        super().__init__()
        self.node, self.module = node, module
        node.http_application.add_application(self)

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Give way to the dashboard, which answers this request and all that follow."""
        pages = self.node.http_application
        pages.applications.remove(self)
        dashboard = import_module(self.module)
        dashboard.connect(pages, self.node.http_server, self.node, prefix="/")  # Dask's default
        return pages.find_handler(request, **kwargs)


class Worker(distributed.Worker):
    """A worker of Dask's that does without a dashboard when it starts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"dashboard": False})


def on_demand(cluster: LocalCluster) -> None:
    """Give the scheduler of a cluster, and those `Worker` that it has, dashboards on demand."""
    scheduler: Any = cluster.scheduler
    OnDemand(scheduler, "distributed.dashboard.scheduler")
    for worker in cluster.workers.values():
        if isinstance(worker, Worker):
            OnDemand(worker, "distributed.dashboard.worker")
