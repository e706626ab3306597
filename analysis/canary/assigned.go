package canary

import (
	"fmt"
	"math"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

// NotBooted is the loss of clients that were assigned to an arm and sent nothing.
const NotBooted = "not_booted"

// Assignment compares how many clients were assigned to the arms, which only who
// assigns them knows, with how many sent a first beacon. Clients that are too
// broken to send anything are seen by nothing else: at a small share of the canary
// their absence does not move the sample ratio enough.
type Assignment struct {
	Clients [2]int64 // told so far, by arm: baseline, canary
	Seen    [2]int64 // sessions that had entered by the last telling
	Early   [2]int64 // sessions that came in a block beyond its clients: their clients counted as missing before
	Missing [2]int64 // clients without a session
	Marks   evalue.Marks
}

// CheckAssigned returns what is wrong with counts of assigned clients, as
// [Invalid]: they are of the whole rollout so far, so they never fall.
func (t *Test) CheckAssigned(canary, baseline int64) error {
	var c checker
	for _, f := range []struct {
		name string
		n    int64
		last int64
	}{{"canary", canary, t.Assigned.Clients[1]}, {"baseline", baseline, t.Assigned.Clients[0]}} {
		if f.n < f.last || f.n > 1<<40 {
			c.want(f.name, f.n, "clients assigned so far: %d, as was told last, or more", f.last)
		}
	}
	return c.err()
}

// Assign tells how many clients were assigned to the arms so far. Those since the
// last telling are one block: its missing ones are scored as losses are, given
// how many clients each arm had. A session that is still on its way counts as
// missing, and makes up for it in the next block; that is alike in both arms.
func (t *Test) Assign(canary, baseline int64) {
	a := &t.Assigned
	if a.Marks == (evalue.Marks{}) {
		a.Marks = t.grid.NewMarks()
	}
	now := [2]int64{baseline, canary}
	var missing, clients [2]int64
	for arm := range now {
		clients[arm] = now[arm] - a.Clients[arm]
		came := t.Sessions[arm] - a.Seen[arm] + a.Early[arm]
		a.Early[arm] = max(came-clients[arm], 0)
		missing[arm] = max(clients[arm]-came, 0)
		a.Missing[arm] += missing[arm]
	}
	a.Clients, a.Seen = now, t.Sessions
	if missing[0]+missing[1] > 0 {
		t.grid.AddBatch(&a.Marks, missing[1], missing[0], clients[1], clients[0])
	}
}

// notBooted returns the loss of assigned clients; ok is false where nobody told
// how many there are.
func (t *Test) notBooted() (l verdict.Loss, ok bool) {
	a := &t.Assigned
	if a.Clients == [2]int64{} {
		return l, false
	}
	return verdict.Loss{Name: NotBooted, Sessions: arms(a.Clients), Lost: arms(a.Missing), Ratio: verdict.Bound(t.grid.Estimate(a.Marks)), LogE: verdict.Bound(t.grid.Unlike(a.Marks))}, true
}

// bootFault says what a loss of assigned clients forbids, if anything.
func (t *Test) bootFault(v *verdict.Verdict) *verdict.Reason {
	l, ok := t.notBooted()
	if !ok {
		return nil
	}
	v.Losses = append(v.Losses, l)
	if float64(l.LogE) < math.Log(1/t.Rollout.Policy.RatioAlpha) {
		return nil
	}
	return &verdict.Reason{Code: verdict.Missing, Text: fmt.Sprintf("clients that were assigned and sent nothing: %d of %d of the canary's and %d of %d of the baseline's: some never boot, or cannot reach this server",
		l.Lost.Canary, l.Sessions.Canary, l.Lost.Baseline, l.Sessions.Baseline)}
}
