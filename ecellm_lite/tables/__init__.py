"""Reads and writes tables: CSV and TSV, XLSX and ODS, Parquet and Arrow, JSON Lines, and product feeds.

A table is read as a stream of rows. Each row has its line number in the file. A row that cannot be read has an error,
and the rows after it are still read. A file's type, encoding, delimiter, quotes and header are detected from its first
bytes. `Table.description` says in one sentence what was detected, and `TableOptions` override the detection.

A `ColumnMap` turns a table's rows into rows of a task, and reports missing columns before the first row is read. A
`ResultWriter` writes the same table with added columns for the answers.

>>> from ecellm_lite.tables.columns import ColumnMap, MapOptions
>>> from ecellm_lite.tables.opening import open_table
>>> from ecellm_lite.tables.results import AnswerColumns
>>> from ecellm_lite.tables.writers import ResultWriter, form_of
>>> def answer_table(answerer, task, source, target):
...     with open_table(source) as table, target.open("wb") as file:
...         columns = ColumnMap(task, table.columns, MapOptions(map=["review=Body"], only_where="Body"))
...         names = table.all_columns()
...         writer = ResultWriter(file, form_of(target.name), names, AnswerColumns(names), schema=table.schema)
...         for row in columns.rows(table):
...             answers = () if row.skipped else answerer.answers(task, [row.request])
...             writer.write(row.source, next((row.warned(answer) for answer in answers), None))
...         writer.close()

The package does not use the engine. Most file types need libraries, which the extra `tables` installs. A library is
imported only when a file needs it. CSV and TSV in UTF-8 and JSON Lines need no library.
"""
