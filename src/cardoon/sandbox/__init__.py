"""What task code can reach: profiles, and the kernel's means to hold a process to one (Linux)."""
