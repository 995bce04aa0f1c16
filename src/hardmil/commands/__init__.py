"""The commands of the command line, one file for each.

Each reads its arguments, calls the library, and says what came out.
"""
