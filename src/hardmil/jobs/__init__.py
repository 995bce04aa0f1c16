"""Run one function on many items, in several processes or on Ray; workers that die are replaced."""

from hardmil.jobs.pool import LOCAL as LOCAL
from hardmil.jobs.pool import Engine as Engine
from hardmil.jobs.pool import find_engine as find_engine
from hardmil.jobs.schedule import run_groups as run_groups
from hardmil.jobs.schedule import run_items as run_items
