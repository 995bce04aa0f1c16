"""One function over many items: in this process, in several, or on Ray.

Items that fail are collected with their tracebacks; a worker that dies is replaced.
"""

from hardmil.jobs.failures import Failure as Failure
from hardmil.jobs.outcome import Outcome as Outcome
from hardmil.jobs.pool import LOCAL as LOCAL
from hardmil.jobs.pool import Engine as Engine
from hardmil.jobs.pool import find_engine as find_engine
from hardmil.jobs.run import JobResults as JobResults
from hardmil.jobs.run import run_jobs as run_jobs
from hardmil.jobs.schedule import run_groups as run_groups
from hardmil.jobs.schedule import run_items as run_items
