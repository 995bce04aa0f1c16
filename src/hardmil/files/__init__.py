"""Reading and writing files: HDF5, CSV, JSON, GeoJSON, run records and locks."""
