"""asv benchmarks: the time and the gradient error of every case in catalogue.json, over commits."""
