package policy

import (
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// world is a rollout with its log of verdicts, the deliverer's record, a
// receiver that does as it is told last, and a tool that asks. Time is in
// seconds.
type world struct {
	now      time.Time
	log      []verdict.Verdict
	latched  bool
	told     map[uint64]bool // recorded deliveries, by number
	trying   int             // index of the message that is being told; -1: none
	received []verdict.Decision
	numbers  []uint64
}

// give records a verdict as the analysis does: where it says another thing than
// the last one, and never anything but a rollback after one.
func (w *world) give(d verdict.Decision) {
	if w.latched {
		d = verdict.Rollback
	}
	n := uint64(1)
	if last := w.newest(); last != nil {
		if last.Decision == d {
			return
		}
		n = last.Number + 1
	}
	w.latched = d == verdict.Rollback
	w.log = append(w.log, verdict.Verdict{Number: n, Decision: d, IssuedAt: w.now, ValidUntil: w.now.Add(time.Minute), Reasons: []verdict.Reason{{Code: verdict.Evidence}}})
}

func (w *world) newest() *verdict.Verdict {
	if len(w.log) == 0 {
		return nil
	}
	return &w.log[len(w.log)-1]
}

// next returns the first message that is to be told, in the order of its number.
func (w *world) next() int {
	var prev *verdict.Verdict
	for i := range w.log {
		v := &w.log[i]
		if !w.told[v.Number] && Worth(prev, v) {
			return i
		}
		prev = v
	}
	return -1
}

// try makes one try of the message that is being told. answered says whether the
// receiver took it, and lost whether the process died before that was recorded.
func (w *world) try(answered, lost bool) {
	if w.trying < 0 {
		w.trying = w.next()
	}
	if w.trying < 0 {
		return
	}
	v := &w.log[w.trying]
	if Overtaken(v.Decision, v.Number, w.newest()) || v.Decision != verdict.Rollback && w.now.After(v.ValidUntil) {
		w.told[v.Number] = true
		w.trying = -1
		return
	}
	if answered {
		w.received = append(w.received, v.Decision)
		w.numbers = append(w.numbers, v.Number)
		if !lost {
			w.told[v.Number] = true
		}
		w.trying = -1
	}
	if lost {
		w.trying = -1
	}
}

// TestSchedules explores a million schedules of verdicts, tries, deaths, replays
// and time, and holds the laws of delivery in each: no promote is told, or
// answered to who asks, after a rollback; numbers rise but for repetitions; what
// was given and is still of use is told in the end.
func TestSchedules(t *testing.T) {
	const schedules = 1_000_000
	rng := rand.New(rand.NewPCG(1, 1))
	begin := time.Unix(1_764_000_000, 0)
	rollbacks, replayed := 0, 0
	for n := range schedules {
		w := world{now: begin, told: map[uint64]bool{}, trying: -1}
		for range 4 + rng.IntN(12) {
			switch rng.IntN(8) {
			case 0, 1:
				w.give(verdict.Decision(rng.IntN(3)))
			case 2:
				w.now = w.now.Add(time.Duration(rng.IntN(90)) * time.Second)
			case 3:
				if len(w.log) > 0 { // somebody has a message told again
					delete(w.told, w.log[rng.IntN(len(w.log))].Number)
					replayed++
				}
			case 4:
				w.trying = -1 // the process dies and begins anew
			case 5:
				if last := w.newest(); last != nil {
					s := verdict.Stand(last, false, w.now)
					if w.latched && s.Decision() != verdict.Rollback || s.Decision() == verdict.Promote && (last.Decision != verdict.Promote || w.now.After(last.ValidUntil)) {
						t.Fatalf("schedule %d: who asks is told %s of %+v", n, s.Decision(), *last)
					}
				}
			default:
				w.try(rng.IntN(3) > 0, rng.IntN(4) == 0)
			}
		}
		for range 3 * (len(w.log) + 1) { // the receiver is there now
			w.try(true, false)
		}
		back := false
		for i, d := range w.received {
			if back && d != verdict.Rollback {
				t.Fatalf("schedule %d: told %v", n, w.received)
			}
			back = back || d == verdict.Rollback
			if i > 0 && d == verdict.Rollback && w.numbers[i] < w.numbers[i-1] {
				t.Fatalf("schedule %d: numbers %v", n, w.numbers)
			}
		}
		if w.latched {
			rollbacks++
			if !back {
				t.Fatalf("schedule %d: a rollback was given and not told: %v", n, w.log)
			}
		}
		if w.next() >= 0 {
			t.Fatalf("schedule %d: %d waits still", n, w.next())
		}
	}
	if rollbacks < schedules/10 || replayed < schedules/10 {
		t.Errorf("only %d rollbacks and %d replays in %d schedules", rollbacks, replayed, schedules)
	}
}
