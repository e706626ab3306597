package taste

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The bounds of what crosses the pipe at once. Behind the first body no more
// may follow than the pipe itself holds (64 KiB on Linux): a child that waits for
// its answers to be read must find all its requests written.
const (
	maxTogether      = 64
	maxBytesTogether = 32 << 10
	maxAnswer        = 64 << 20 // bytes of one answer
)

// A request and an answer are each a length in four bytes, little-endian, and
// as many bytes. The first answer of a child is empty and answers nothing: it is
// ready, and what it dies of from then on is a body.
const lengthBytes = 4

// taster is one place for a child, and the goroutine that feeds it.
type taster struct {
	o     *Options
	queue chan *job
	done  chan struct{}
	held  *job // taken from the queue, and too much for the last crossing

	cmd     *exec.Cmd // nil: no child yet
	in      io.WriteCloser
	out     *bufio.Reader
	started time.Time
	deaths  int // in a row, each soon after its start
	frame   []byte
}

// run feeds the child until the pool is closed.
func (t *taster) run() {
	defer t.end()
	for {
		jobs := t.next()
		if jobs == nil {
			return
		}
		if left, _ := t.cross(jobs); left != nil {
			t.again(left)
		}
	}
}

// next waits for a job and takes what else waits; nil: the pool is closed.
func (t *taster) next() []*job {
	first := t.held
	t.held = nil
	if first == nil {
		select {
		case first = <-t.queue:
		case <-t.done:
			for {
				select {
				case j := <-t.queue:
					j.answer <- answered{err: ErrBusy}
				default:
					return nil
				}
			}
		}
	}
	jobs := []*job{first}
	for bytes := 0; len(jobs) < maxTogether; {
		select {
		case j := <-t.queue:
			if bytes += len(j.q) + lengthBytes; bytes > maxBytesTogether {
				t.held = j
				return jobs
			}
			jobs = append(jobs, j)
		default:
			return jobs
		}
	}
	return jobs
}

// again tastes what a dead child left, each alone. What dies of its own is
// named by it: this is the second death that it had a part in.
func (t *taster) again(left []*job) {
	for _, j := range left {
		if dead, cause := t.cross([]*job{j}); dead != nil {
			j.answer <- answered{cause: cause}
		}
	}
}

// cross has the child answer jobs. Where it dies it returns those that are not
// answered, and of what the child died.
func (t *taster) cross(jobs []*job) (left []*job, cause string) {
	kept := jobs[:0]
	for _, j := range jobs {
		if j.ctx.Err() != nil {
			j.answer <- answered{err: ErrBusy} // nobody waits for it
			continue
		}
		kept = append(kept, j)
	}
	jobs = kept
	if len(jobs) == 0 {
		return nil, ""
	}
	if t.cmd == nil {
		if err := t.start(); err != nil {
			for _, j := range jobs {
				j.answer <- answered{err: err}
			}
			return nil, ""
		}
	}
	var timedOut atomic.Bool
	known := func() string {
		if timedOut.Load() {
			return causeTimeout
		}
		return ""
	}
	process := t.cmd.Process
	late := time.AfterFunc(t.o.Timeout, func() {
		timedOut.Store(true)
		_ = process.Kill() // it may have ended just now
	})
	defer late.Stop()
	t.frame = t.frame[:0]
	for _, j := range jobs {
		t.frame = binary.LittleEndian.AppendUint32(t.frame, uint32(len(j.q)))
		t.frame = append(t.frame, j.q...)
	}
	if _, err := t.in.Write(t.frame); err != nil {
		return jobs, t.reap(known())
	}
	for i, j := range jobs {
		a, err := readFrame(t.out, maxAnswer)
		if err != nil {
			return jobs[i:], t.reap(known())
		}
		j.answer <- answered{a: a}
	}
	if !late.Stop() {
		t.reap(causeTimeout)
		return nil, ""
	}
	t.deaths = 0
	if cap(t.frame) > 1<<20 {
		t.frame = nil
	}
	return nil, ""
}

// readFrame reads one request or answer of at most limit bytes.
func readFrame(r *bufio.Reader, limit uint32) ([]byte, error) {
	var head [lengthBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > limit {
		return nil, fmt.Errorf("%d bytes, at most %d", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}

// end lets the child go: it ends when its input does.
func (t *taster) end() {
	if t.cmd == nil {
		return
	}
	_ = t.in.Close()
	_ = t.cmd.Process.Kill() // it may be in the middle of something
	_ = t.cmd.Wait()         // how it ended is of no interest
	t.cmd = nil
}

// The causes of a death that its exit status does not tell.
const (
	causeTimeout = "timeout"
	causeStart   = "start"
)

// reap buries a dead child and says what it died of: the cause that is known, else
// what its exit status tells.
func (t *taster) reap(known string) (cause string) {
	defer func() { metrics.GetOrCreateCounter(`serin_taste_deaths_total{cause="` + cause + `"}`).Inc() }()
	t.deaths++
	if time.Since(t.started) > time.Minute {
		t.deaths = 1
	}
	_ = t.in.Close()
	_ = t.cmd.Process.Kill() // an answer that is garbage leaves it alive
	_ = t.cmd.Wait()         // its exit status is read below
	code := t.cmd.ProcessState.ExitCode()
	t.cmd = nil
	switch {
	case known != "":
		return known
	case code == 2:
		return "fatal" // the runtime's: a stack, memory, a panic
	case code >= 0:
		return "exit"
	}
	return "signal"
}

// start starts a child, later the more often it has died.
func (t *taster) start() error {
	if t.deaths > 2 {
		time.Sleep(min(50*time.Millisecond<<min(t.deaths-3, 6), t.o.Timeout)) // a taster that dies again and again must not eat the machine
	}
	cmd := t.o.Command()
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	t.cmd, t.in, t.out, t.started = cmd, in, bufio.NewReaderSize(out, maxBytesTogether), time.Now()
	late := time.AfterFunc(t.o.Timeout, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	if _, err := readFrame(t.out, 0); err != nil {
		t.reap(causeStart)
		return fmt.Errorf("start a taster: it ended before it was ready: %w", err)
	}
	return nil
}
