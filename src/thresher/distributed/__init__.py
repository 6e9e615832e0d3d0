"""Building and searching on several processes and machines.

A build is cut into shards, each of which becomes a segment of one index; an index is searched in shards whose answers
are merged. Names are imported from the modules here, such as `thresher.distributed.building`.
"""
