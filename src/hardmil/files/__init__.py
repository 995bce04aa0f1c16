"""Files that are written whole or not at all: HDF5, CSV, JSON and GeoJSON.

Also the record of a run, and locks for runs that share a folder.
"""

from hardmil.files.atomic import write_atomically as write_atomically
from hardmil.files.csv_table import columns_by_name as columns_by_name
from hardmil.files.csv_table import columns_of as columns_of
from hardmil.files.csv_table import read_table as read_table
from hardmil.files.csv_table import write_table as write_table
from hardmil.files.geojson import Region as Region
from hardmil.files.geojson import read_regions as read_regions
from hardmil.files.geojson import write_regions as write_regions
from hardmil.files.locks import locked as locked
from hardmil.files.run_record import write_run_record as write_run_record
