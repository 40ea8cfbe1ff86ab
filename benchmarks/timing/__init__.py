"""How long things take: hops, stages, starts, whole days; interleaved, as ratios, on this machine."""
