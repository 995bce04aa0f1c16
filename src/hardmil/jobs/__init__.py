"""One function over many items, in several processes here or on Ray; a worker that dies is replaced."""

from hardmil.jobs.pool import LOCAL as LOCAL
from hardmil.jobs.pool import Engine as Engine
from hardmil.jobs.pool import find_engine as find_engine
from hardmil.jobs.schedule import run_groups as run_groups
from hardmil.jobs.schedule import run_items as run_items
