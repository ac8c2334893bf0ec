"""The one edge between asyd and the operating system; OS errors become ours here.

`base` says what a platform offers. `linux` and what it is made of know Linux, `portable` any POSIX
system through psutil.
"""
