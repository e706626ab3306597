package analysis

import "syscall"

// nicer is by how much the nice value of a thread that gives way is higher: beside one
// that does not it has a tenth of the processor (sched(7): 1.25 to the tenth power).
const nicer = 10

// giveWay lowers the priority of the calling thread, which nobody may raise again. On
// Linux a nice value is a thread's own, though POSIX has it the process's.
func giveWay() {
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return // it goes on as it is, as where there are processors enough
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 20-own+nicer) // likewise; the kernel's call returns 20 less the nice value
}
