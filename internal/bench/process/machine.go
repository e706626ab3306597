package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Busy returns how long the processors of the machine have worked since it
// started, all together: for whomever, the time that a hypervisor took
// included.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read how busy the machine is: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	// cpu user nice system idle iowait irq softirq steal; guests are in user.
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("read how busy the machine is: %q: want cpu and 8 numbers", line)
	}
	busy := time.Duration(0)
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read how busy the machine is: %w", err)
		}
		busy += time.Duration(n) * tick
	}
	return busy, nil
}
