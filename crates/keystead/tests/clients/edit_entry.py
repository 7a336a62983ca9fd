"""Whoever can write the database changes one entry of the log, and covers the tracks."""

import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])
kept = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'entry_never_changes'").fetchone()[0]
database.execute("DROP TRIGGER entry_never_changes")
changed = database.execute(
    "UPDATE entry SET leaf = replace(leaf, 'house|alice', 'house|mallo') "
    "WHERE seq = (SELECT min(seq) FROM entry WHERE leaf LIKE '%house|alice%')"
)
assert changed.rowcount == 1
database.execute(kept)
database.commit()
