package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestTail has positions that come in another order, that do not come, and that come late.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tl := newTail()
		ctx := t.Context()
		tl.put(1, []byte("before"))
		tl.put(4, []byte("four"))
		tl.begin(3)
		take := func(pos uint64, want string) {
			t.Helper()
			m, err := tl.await(ctx, pos)
			if err != nil || string(m.Data) != want || m.Pos != pos || time.Since(m.At) > time.Minute {
				t.Fatalf("position %d: %q at %d, %v", pos, m.Data, m.Pos, err)
			}
			tl.drop(m)
		}
		if _, err := tl.await(ctx, 2); err != errNotHere {
			t.Errorf("a position before the first: %v", err)
		}
		go func() {
			time.Sleep(patience / 2)
			tl.put(3, []byte("three"))
		}()
		take(3, "three")
		take(4, "four")

		began := time.Now()
		tl.put(6, []byte("six"))
		if _, err := tl.await(ctx, 5); err != errNotHere || time.Since(began) != patience || !tl.covers(6) {
			t.Errorf("a position that does not come: %v after %v", err, time.Since(began))
		}
		take(6, "six")
		tl.put(5, []byte("five")) // which the follower has from the server

		short, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if _, err := tl.await(short, 7); err != context.DeadlineExceeded {
			t.Errorf("while nothing comes: %v", err)
		}
		if len(tl.held) != 0 || tl.bytes != 0 {
			t.Errorf("%d messages of %d bytes are left", len(tl.held), tl.bytes)
		}

		// More than there is room for.
		for pos := uint64(7); tl.covers(7); pos++ {
			tl.put(pos, make([]byte, 1<<20))
			if tl.bytes > tailBytes {
				t.Fatalf("%d bytes are held", tl.bytes)
			}
		}
		if _, err := tl.await(ctx, 7); err != errNotHere || len(tl.held) != 0 {
			t.Errorf("after more than there is room for: %v, %d held", err, len(tl.held))
		}
		next := tl.from
		tl.put(next, []byte("again"))
		take(next, "again")

		tl.unsure()
		tl.put(next+1, []byte("x"))
		if _, err := tl.await(ctx, next+1); err != errNotHere || tl.covers(next+1) {
			t.Errorf("where something may be stored that is not here: %v", err)
		}
	})
}

// TestTailBegins has more come than there is room for before it is known where the tail
// begins: what was dropped is read from the server.
func TestTailBegins(t *testing.T) {
	tl := newTail()
	for pos := uint64(1); tl.covers(1); pos++ {
		tl.put(pos, make([]byte, 1<<20))
	}
	from := tl.from
	tl.begin(2)
	if tl.covers(from-1) || !tl.covers(from) {
		t.Errorf("from %d on all are here, want from %d", tl.from, from)
	}
	tl.unsure()
	tl.begin(from)
	if tl.covers(from) {
		t.Error("what may be missing is taken for here")
	}
}

// TestFollowTail has a follower that falls behind by more than the tail holds: it reads
// from the server, and from the tail when it has caught up.
func TestFollowTail(t *testing.T) {
	l := openLog(t, open(t, Options{Dir: t.TempDir()}), "tail", LogOptions{})
	ctx := testContext(t)
	for i := range 20 {
		appendTo(t, l, fmt.Sprint("old", i))
	}
	const large, total = 40, 20 + 40 + 100
	wait, caught, all, done := make(chan struct{}), make(chan struct{}), make(chan error, 1), errors.New("done")
	go func() {
		next := uint64(1)
		all <- l.Follow(ctx, next, func(m Message) error {
			if m.Pos != next {
				return fmt.Errorf("got position %d, want %d", m.Pos, next)
			}
			switch next++; {
			case m.Pos == 21:
				<-wait
			case m.Pos == 20+large:
				close(caught)
			case m.Pos > 20+large && string(m.Data) != fmt.Sprint("new", m.Pos):
				return fmt.Errorf("position %d is %q", m.Pos, m.Data)
			case m.Pos == total:
				return done
			}
			return nil
		})
	}()
	consumers := func() int {
		s, err := l.j.readJS.Stream(ctx, l.stream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Consumers
	}
	big := make([]byte, 1<<20)
	for range large {
		if _, err := l.Append(ctx, big); err != nil {
			t.Fatal(err)
		}
	}
	close(wait)
	<-caught
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if n := consumers(); n == 0 {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the follower still reads from the server")
		}
	}
	for i := range 100 {
		appendTo(t, l, fmt.Sprint("new", 20+large+i+1))
	}
	if n := consumers(); n != 0 {
		t.Errorf("%d consumers read from the server, want none", n)
	}
	if err := <-all; err != done {
		t.Error(err)
	}
	if l.tail.Load() != nil {
		t.Error("the tail outlives its follower")
	}
}
