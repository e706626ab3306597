// Package process runs the servers that are measured, each on cores of its
// own, and reads what they and their children use from /proc.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process and all of its descendants have used.
type Usage struct {
	CPU       time.Duration // user and system, of the ended children too
	RSS       int64         // bytes that are resident now
	Processes int           // alive
}

// tick is the unit of times in /proc/PID/stat: Linux tells user space 100 a
// second on every architecture that Go runs on (proc(5), USER_HZ).
const tick = 10 * time.Millisecond

// Read reads the usage of a process and its descendants. The error is that of
// the process itself; a child that ends meanwhile is counted by its parent.
func Read(pid int) (Usage, error) {
	var u Usage
	err := u.add(pid)
	return u, err
}

func (u *Usage) add(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold anything; the last one ends it.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	fields := strings.Fields(string(rest))
	const utime, cstime, rss = 11, 14, 21 // counted from the state, which is field 3 of proc(5)
	if len(fields) <= rss {
		return fmt.Errorf("read the usage of process %d: %q: want %d fields", pid, stat, rss)
	}
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return fmt.Errorf("read the usage of process %d: %w", pid, err)
		}
		u.CPU += time.Duration(n) * tick
	}
	pages, err := strconv.ParseInt(fields[rss], 10, 64)
	if err != nil {
		return fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	u.RSS += pages * int64(os.Getpagesize())
	u.Processes++
	for _, child := range Children(pid) {
		if err := u.add(child); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Children returns the children of a process that are alive.
func Children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	var out []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// look is the time between two looks of [Quiet]. Times in /proc are counted in
// ticks: within 250 ms the two ticks of a server that is idle, its collector's
// or a timer's, were already more than the twentieth of a core that is allowed.
const look = time.Second

// Quiet waits until a process and its descendants have used less than a
// twentieth of a core for as long as quiet, so that work that is put off is
// counted too. It looks once a second, and gives up after limit, and says so.
func Quiet(ctx context.Context, pid int, quiet, limit time.Duration) error {
	if err := settled(ctx, func() (Usage, error) { return Read(pid) }, quiet, limit); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return nil
}

func settled(ctx context.Context, read func() (Usage, error), quiet, limit time.Duration) error {
	last, err := read()
	if err != nil {
		return err
	}
	began := time.Now()
	// A machine that is loaded wakes us late, so what a look spans is measured.
	for at, since := began, began; at.Sub(since) < quiet; {
		if at.Sub(began) >= limit {
			return fmt.Errorf("not quiet for %v within %v", quiet, limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		now, err := read()
		if err != nil {
			return err
		}
		before := at
		at = time.Now()
		if now.CPU-last.CPU > at.Sub(before)/20 {
			since = at
		}
		last = now
	}
	return nil
}

// Server is a process that is measured.
type Server struct {
	cmd   *exec.Cmd
	log   tail
	ended chan struct{}
	err   error
}

// Options say how a server is run.
type Options struct {
	Cores string   // as taskset takes them, such as "1"; empty: any
	Env   []string // and nothing else but PATH and HOME
}

// Start starts a program.
func Start(o Options, program string, args ...string) (*Server, error) {
	if o.Cores != "" {
		args = append([]string{"-c", o.Cores, program}, args...)
		program = "taskset"
	}
	s := &Server{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	s.cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}, o.Env...)
	s.cmd.Stderr = &s.log
	// A server must not outlive what measures it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// PID returns the server's process: taskset becomes the program that it starts.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log returns the end of what the server has written to its standard error.
func (s *Server) Log() string { return s.log.String() }

// Ended reports whether the server has ended.
func (s *Server) Ended() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// Stop asks the server to end, and kills it where it does not within a
// minute. The error is that of its exit status.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(os.Interrupt) // fails only where it has ended
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill() // likewise
		<-s.ended
	}
	if s.err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(s.cmd.Path), s.err, s.Log())
	}
	return nil
}
