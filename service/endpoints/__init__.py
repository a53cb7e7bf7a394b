"""The endpoints on the bus: one file for each, named by its RFC's word.

Start with `token`. `endpoint_table` has the subjects of all: `authorize`, `device_authorization`, `discovery`,
`introspect`, `issue`, `revocations`, `revoke`,
`token`. `end_user` is the person whom a caller reports.
"""
