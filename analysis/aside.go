package analysis

import (
	"context"
	"runtime"
)

// aside does work, one thing after the other, on a thread of its own that gives way to
// the others of the process: what beacons wait for has the processor first, where there
// is too little of it for all.
type aside struct {
	work  chan func()
	ended <-chan struct{}
}

// newAside starts the thread, which ends with ctx.
func newAside(ctx context.Context) *aside {
	a := &aside{make(chan func()), ctx.Done()}
	go func() {
		runtime.LockOSThread() // and never unlocked: no other goroutine shall have a thread that gives way
		giveWay()
		for {
			select {
			case f := <-a.work:
				f()
			case <-a.ended:
				return
			}
		}
	}()
	return a
}

// do returns when f has returned: on the thread, or, where that has ended, here.
func (a *aside) do(f func()) {
	done := make(chan struct{})
	select {
	case a.work <- func() { defer close(done); f() }:
		<-done
	case <-a.ended:
		f()
	}
}
