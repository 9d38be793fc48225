"""The stability run: clients under load while the service, its database and its host are killed, stopped or cut off.

`run` in this folder is the command; docs/stability.md describes it and has a recorded run.

| module | content |
|---|---|
| `options` | the command line |
| `coordinator` | the course of a run: install, load, faults, final checks, report |
| `site` | the installation on a test host, and the faults |
| `client`, `fleet` | a client process, and all of them |
| `workload` | the operations of a client and the checks of their results |
| `probe` | measurement of availability, memory and CPU time |
| `accounting` | comparison of the journaled writes with the stored memories |
| `report` | the report in Markdown |
| `protocol`, `latency` | calls of tools over plain HTTP; histograms |
"""
