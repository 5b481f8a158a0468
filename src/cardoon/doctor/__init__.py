"""The doctor: looks at a deployment as an intruder would, and says what to mend.

`check` is what a check is, `scene` what checks look at, `catalogue` all of them; `examining` runs them.
"""
