package process

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
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
	// How soon the child gets a processor is the machine's affair, so only a
	// test that takes minutes ends the waiting.
	for deadline := time.Now().Add(2 * time.Minute); u.CPU < 200*time.Millisecond && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if u, err = Read(s.PID()); err != nil {
			t.Fatal(err)
		}
	}
	if u.CPU < 200*time.Millisecond || u.Processes != 2 || u.RSS < 1<<19 {
		t.Errorf("usage %+v of a shell and its busy child", u)
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
	if err := Quiet(t.Context(), s.PID(), time.Second, time.Minute); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Quiet(ctx, s.PID(), time.Minute, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
	if err := s.Stop(); err == nil || !s.Ended() {
		t.Errorf("sleep ends without the signal: %v", err)
	}
	if _, err := Read(s.PID()); err == nil {
		t.Error("a process that has ended has no usage")
	}
}

// TestSettled has processes that use the processor by a plan, in ticks, under a
// clock of the test's own.
func TestSettled(t *testing.T) {
	busy := func(share float64) func(time.Duration) time.Duration {
		return func(d time.Duration) time.Duration { return time.Duration(share * float64(d)) }
	}
	for _, c := range []struct {
		name string
		used func(time.Duration) time.Duration // by then
		want time.Duration                     // when it is quiet; 0: never
	}{
		{"sleeps", busy(0), 11 * time.Second},
		{"idles at 2 %, two ticks at once", func(d time.Duration) time.Duration { return d / time.Second * 2 * tick }, 11 * time.Second},
		{"idles at 3 %, three ticks at once", func(d time.Duration) time.Duration { return (d + 900*time.Millisecond) / time.Second * 3 * tick }, 11 * time.Second},
		{"works for 7 s", func(d time.Duration) time.Duration { return min(d, 7*time.Second) }, 18 * time.Second},
		{"works a tenth of the time", busy(0.1), 0},
		{"works once in 10 s", func(d time.Duration) time.Duration { return d / (10 * time.Second) * time.Second }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				read := func() (Usage, error) { return Usage{CPU: c.used(time.Since(start)).Truncate(tick)}, nil }
				err := settled(t.Context(), read, 11*time.Second, time.Minute)
				took := time.Since(start)
				if c.want == 0 && (err == nil || !strings.Contains(err.Error(), "not quiet for 11s within 1m0s") || took != time.Minute) {
					t.Errorf("after %v: %v", took, err)
				}
				if c.want > 0 && (err != nil || took != c.want) {
					t.Errorf("after %v, want %v: %v", took, c.want, err)
				}
			})
		})
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
