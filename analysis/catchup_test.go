package analysis

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
)

// TestCommandsWhileCatchingUp asks an engine that has lost its checkpoint and not
// read the journal again: what it cannot check it must refuse, and what it is told
// must not take the place of what was commanded before.
func TestCommandsWhileCatchingUp(t *testing.T) {
	h := newHouse(t)
	all := beacons(1, 300)
	h.send(all[:100])
	h.follow()
	if _, err := h.e.Create(t.Context(), owner(t), busy(t)); err != nil {
		t.Fatal(err)
	}
	h.send(all[100:200])
	h.follow()
	if _, err := h.e.Override(t.Context(), owner(t), "r", canary.Force{Decision: "rollback", Who: "boss", Why: "a test"}); err != nil {
		t.Fatal(err)
	}
	h.send(all[200:])
	h.follow()
	crash := func() {
		t.Helper()
		h.stop()
		if err := os.Remove(filepath.Join(h.dir, "checkpoint")); err != nil {
			t.Fatal(err)
		}
	}
	crash()
	h.open()
	before := h.recorded()
	_, create := h.e.Create(t.Context(), owner(t), busy(t))
	_, stage := h.e.SetStage(t.Context(), owner(t), "r", 0)
	_, status := h.e.Status(owner(t), "r")
	_, release := h.e.SetRelease(t.Context(), owner(t), "ci", "shop", "1", ReleaseDeployed)
	standing, gate := h.e.Gate(t.Context(), owner(t), "r", nil)
	for i, err := range []error{create, stage, status, release} {
		if !errors.Is(err, ErrCatchingUp) {
			t.Errorf("question %d: %v, want %v", i, err, ErrCatchingUp)
		}
	}
	if gate != nil || standing.Why != ErrCatchingUp.Error() || h.recorded() != before {
		t.Errorf("%+v, %v; %d records, %d before", standing, gate, h.recorded(), before)
	}
	// An acknowledgement is a fact: it is kept, behind the commands from before.
	if err := h.e.RecordDelivery(t.Context(), "t", "r", Delivery{Target: "x", Message: "m", Outcome: delivered, Rollback: 1}); err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		h.e.mu.Lock()
		defer h.e.mu.Unlock()
		test := h.e.fold.Tests[rolloutKey{"t", "r"}]
		if test == nil || test.ForcedBy == nil || test.Delivered == 0 || len(h.e.queue) > 0 {
			t.Errorf("%s: %d commands wait, test %+v", when, len(h.e.queue), test)
		}
	}
	h.start()
	h.follow()
	look("after the crash")
	h.stop() // with a checkpoint
	h.start()
	look("after a stop")
	crash()
	h.start()
	look("after another crash")
	h.stop()
	h.again(1)
}

// TestCheckpointOfTheSame: where nothing came, no other checkpoint is written; where
// something did, one is.
func TestCheckpointOfTheSame(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.open() // without a run, which seals by itself
	all := beacons(1, 20)
	written := func() time.Time {
		t.Helper()
		info, err := os.Stat(filepath.Join(h.dir, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	seals := func(n int) {
		t.Helper()
		for range n {
			if err := h.e.seal(t.Context(), true, nil); err != nil { // as a stop does
				t.Fatal(err)
			}
		}
	}
	fold := func(from, to int) {
		t.Helper()
		h.send(all[from:to])
		_, last, err := h.events.Bounds(t.Context())
		if err == nil {
			err = h.events.Scan(t.Context(), h.e.position+1, last, h.e.message)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fold(0, 10)
	seals(1)
	first := written()
	seals(5)
	if again := written(); again != first {
		t.Errorf("written at %v, and at %v though nothing came", first, again)
	}
	fold(10, len(all))
	seals(1)
	if again := written(); again == first {
		t.Error("what came is in no checkpoint")
	}
}
