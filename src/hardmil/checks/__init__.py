"""What `hardmil doctor` looks at: the installation, and a study.

Also images that are copies of each other, or tiles of one field.
"""
