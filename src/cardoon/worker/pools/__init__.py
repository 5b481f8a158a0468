"""How jobs are spread over processes, threads and loops."""
