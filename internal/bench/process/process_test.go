package process

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestUsageCountsChildren burns a known time in a child of a child.
func TestUsageCountsChildren(t *testing.T) {
	s, err := Start(Options{}, "sh", "-c", `sh -c 'i=0; while :; do i=$((i+1)); done' & wait`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }() // ended by the signal
	var u Usage
	for range 200 {
		if u, err = Read(s.PID()); err != nil {
			t.Fatal(err)
		}
		if u.CPU >= 200*time.Millisecond {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if u.CPU < 200*time.Millisecond || u.Processes != 2 || u.RSS < 1<<19 {
		t.Errorf("usage %+v of a shell and its busy child", u)
	}
	if err := Quiet(t.Context(), s.PID(), 500*time.Millisecond, 1500*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not quiet") {
		t.Errorf("a busy child counts as quiet: %v", err)
	}
	for _, c := range Children(s.PID()) {
		if p, err := os.FindProcess(c); err == nil {
			_ = p.Kill()
		}
	}
}

func TestQuiet(t *testing.T) {
	s, err := Start(Options{}, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if err := Quiet(t.Context(), s.PID(), 500*time.Millisecond, 5*time.Second); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Quiet(ctx, s.PID(), time.Minute, time.Hour); err != context.Canceled {
		t.Errorf("after the context's end: %v", err)
	}
	if err := s.Stop(); err == nil || !s.Ended() {
		t.Errorf("sleep ends without the signal: %v", err)
	}
	if _, err := Read(s.PID()); err == nil {
		t.Error("a process that has ended has no usage")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var l tail
	for range 1000 {
		_, _ = l.Write([]byte("a line of the log\n"))
	}
	_, _ = l.Write([]byte("the last"))
	if got := l.String(); len(got) != tailBytes || !strings.HasSuffix(got, "the last") {
		t.Errorf("%d bytes, end %q", len(got), got[len(got)-20:])
	}
}

func TestBusyCountsWork(t *testing.T) {
	before, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
	}
	after, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	if got := after - before; got < 20*time.Millisecond || got > time.Minute {
		t.Errorf("%v of work in 200 ms of a busy loop", got)
	}
}
