package taste

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"syscall"
	"time"
)

// Limits bound a child. It takes them from its parent by way of the command's
// arguments, which only cmd reads.
type Limits struct {
	Memory uint64        // bytes of data that the child may map; past it, it dies
	Stack  int           // bytes of one goroutine's stack
	Time   time.Duration // for one body, after which the child ends itself; its parent kills it long before, if it lives
}

// DefaultLimits are far above what the largest allowed body needs.
var DefaultLimits = Limits{Memory: 512 << 20, Stack: 16 << 20, Time: 30 * time.Second}

// exitOrphan is the exit status of a child that nobody killed in time.
const exitOrphan = 3

// maxRequest bounds one request; a parent sends no larger ones.
const maxRequest = 16 << 20

// gcPercent lets a child's small heap grow to some tens of megabytes between
// collections: what it allocates is short-lived, and at the default it would
// collect for every few hundred bodies.
const gcPercent = 800

// softPart is the part of its limit past which a child collects more eagerly: as
// much as gcPercent lets a small heap grow to is kept four times over, and few
// bodies need more.
const softPart = 4

// niceness is how far a child stands back (setpriority(2)).
const niceness = 10

// Serve is the child: it reads requests from in and writes what answer appends
// to its second argument to out, until in ends. It sets the limits on its own
// process.
func Serve(l Limits, in io.Reader, out io.Writer, answer func(q, a []byte) []byte) error {
	// Tasters must not take the processor from whoever answers: poison is worth
	// less than what is good.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, niceness) // where it is not allowed it is no harm
	debug.SetMaxStack(l.Stack)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(int64(l.Memory / softPart)) // a soft limit: past it collect more eagerly
	if err := limitMemory(l.Memory); err != nil {
		return fmt.Errorf("limit the taster's memory: %w", err)
	}
	// A parent that is gone kills nobody: a child in an endless loop must not
	// outlive it for good.
	orphan := time.AfterFunc(time.Hour, func() { syscall.Exit(exitOrphan) })
	orphan.Stop()
	r, w := bufio.NewReaderSize(in, 2*maxBytesTogether), bufio.NewWriterSize(out, 2*maxBytesTogether)
	if _, err := w.Write(make([]byte, lengthBytes)); err != nil { // it is ready
		return fmt.Errorf("write an answer: %w", err)
	}
	var a []byte
	for {
		if r.Buffered() == 0 {
			orphan.Stop()
			if err := w.Flush(); err != nil {
				return fmt.Errorf("write an answer: %w", err)
			}
		}
		q, err := readFrame(r, maxRequest)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		orphan.Reset(l.Time)
		a = answer(q, append(a[:0], 0, 0, 0, 0)) // room for the length
		binary.LittleEndian.PutUint32(a, uint32(len(a)-lengthBytes))
		if _, err := w.Write(a); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
		if cap(a) > 1<<20 {
			a = nil
		}
	}
}
