"""Where runs are executed: the seam, and the processes of this machine."""
