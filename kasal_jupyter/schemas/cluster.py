"""What runs are executed on, where that is a cluster."""

from __future__ import annotations

from pydantic import Field

from kasal_jupyter.schemas.base import Model


class ClusterWorker(Model):
    """A worker of the cluster."""

    address: str
    slots: int = Field(0, description="Executions that it takes at the same time.")
    free: int = Field(0, description="How many more it would take now.")
    ready: bool = Field(description="Whether an execution would begin there at once.")
    fault: str | None = Field(None, description="Why it takes none; null where it does.")
    packages: dict[str, str] = Field(
        default_factory=dict, description="What executions hang on, with its version."
    )
    differs: list[str] = Field(
        default_factory=list, description="In what it differs from the server's environment, in words."
    )


class ClusterReport(Model):
    """What executions are run on."""

    backend: str = Field(description="`local`: processes on the server's machine; `dask`: a Dask cluster.")
    address: str | None = Field(None, description="The cluster's.")
    connected: bool = Field(True, description="Whether it is reached at the moment.")
    fault: str | None = Field(None, description="Why it is not.")
    workers: list[ClusterWorker] = Field(default_factory=list)
    packages: dict[str, str] = Field(default_factory=dict, description="The server's own, for comparison.")
