"""asyd's side of the audit black box (docs/audit.md): from an instruction to the disk.

`log` is what sessions call, `ring` the shared memory that it fills, without a lock or a system
call. `supervisor` starts `keeper`, which starts `writer` and starts it again when it dies; the
writer alone touches the disk, through `stream`, one for each of the two chains.
"""
