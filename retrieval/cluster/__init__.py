"""Who works: processes of this machine, or of many; what they do is told to them.

workers.py says what workers are: start one, submit a job to it, wait for what any of them tells.
processes.py has those of this machine, ray_workers.py those of a Ray cluster. roster.py gives jobs
to workers until all are done, and replaces workers that are lost.
"""

from retrieval.cluster.child import start_child, working_folder
from retrieval.cluster.processes import Processes
from retrieval.cluster.roster import work_off
from retrieval.cluster.workers import Duty, Helpers, Told, Workers

__all__ = [
    "Duty",
    "Helpers",
    "Processes",
    "Told",
    "Workers",
    "start_child",
    "work_off",
    "working_folder",
]
