package analysis

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: a rest is three times as long as the work before it, within bounds, and
// there is none when the time is up or there is a hurry.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hurry := make(chan struct{})
		late := false
		p := newPace(newAside(t.Context()), func() bool { return late }, hurry, time.Second)
		after := func(work, want time.Duration) {
			t.Helper()
			start := time.Now()
			p.do(func() { time.Sleep(work) })
			late = !late // either way
			if got := time.Since(start) - work; got != want {
				t.Errorf("a rest of %v after %v of work, want %v", got, work, want)
			}
		}
		after(time.Millisecond, 3*time.Millisecond)
		after(400*time.Microsecond, 0)
		after(700*time.Microsecond, 3300*time.Microsecond) // both together
		after(20*time.Millisecond, 5*time.Millisecond)
		after(time.Second, 5*time.Millisecond)
		after(time.Millisecond, 0) // the time is up
		p = newPace(newAside(t.Context()), func() bool { return late }, hurry, time.Minute)
		close(hurry)
		after(time.Millisecond, 0)
	})
}
