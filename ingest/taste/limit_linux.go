package taste

import "syscall"

// limitMemory bounds the private writable memory of this process. RLIMIT_AS
// would count what the Go runtime only reserves.
func limitMemory(bytes uint64) error {
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: bytes, Max: bytes})
}
