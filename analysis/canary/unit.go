package canary

import (
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/store/batch"
)

// People are the users that are known, where a guardrail counts users and not
// sessions. A user is counted from their first session on for [session.TTL], as
// long as an epoch's sessions are known; after that they are another user.
type People struct {
	Known map[uint64]Person // by hash
	Queue []Entry           // by time of their entry
	Met   [2]int64          // users that were counted, by arm: baseline, canary
	// Matured are those whose first session is older than silence_after.
	Matured [2]int64
}

// Person is one user.
type Person struct {
	Stratum int
	Epoch   int64
	Canary  bool
	Part    session.Part
	Failed  uint16 // bits by metric
}

// Entry says when a user entered.
type Entry struct {
	User uint64
	At   int64 // Unix ms
}

// meet enters a user, and reports whether they are new.
func (p *People) meet(user uint64, as Person, at int64) bool {
	if _, ok := p.Known[user]; ok {
		return false
	}
	p.Known[user] = as
	p.Queue = append(p.Queue, Entry{user, at})
	p.Met[side(as.Canary)]++
	return true
}

// fail marks a user's failure of a metric, and reports whether it is the first
// one of a user who is known.
func (p *People) fail(user uint64, m session.Metric) (Person, bool) {
	who, ok := p.Known[user]
	if !ok || who.Failed&(1<<m) != 0 {
		return who, false
	}
	who.Failed |= 1 << m
	p.Known[user] = who
	return who, true
}

// forget drops the users who entered before a time in Unix ms.
func (p *People) forget(before int64) {
	n := 0
	for ; n < len(p.Queue) && p.Queue[n].At < before; n++ {
		delete(p.Known, p.Queue[n].User)
	}
	if n == 0 {
		return
	}
	p.Queue = append([]Entry(nil), p.Queue[n:]...)
}

// place says where a user stands among the customers.
func (p *People) place(user uint64, part session.Part) {
	who := p.Known[user]
	who.Part = part
	p.Known[user] = who
}

// ofUsers reports whether a guardrail counts users.
func (t *Test) ofUsers(m session.Metric) bool { return t.guardrail(m).Unit == UnitUser }

// maxParts bounds the customers that are told apart; the others share one.
const maxParts = 2048

// otherParts is the name under which customers past the bound are kept.
const otherParts = "(other)"

// enterPart enters a session with its customer.
func (t *Test) enterPart(b *batch.Batch, row int, entered int64, a int, leads bool) session.Part {
	name := b.Text(batch.Env, row)
	if name == "" {
		name = "(none)"
	}
	k, ok := t.parts[name]
	if !ok && len(t.Parts) >= maxParts {
		name = otherParts
		k, ok = t.parts[name]
	}
	if !ok {
		k = len(t.Parts)
		t.Parts = append(t.Parts, Stratum{Name: name})
		t.parts[name] = k
	}
	st := &t.Parts[k]
	ep := st.open(entered - entered%t.Rollout.Policy.Epoch.ms())
	for m := range session.Metrics {
		if leads || !t.ofUsers(m) {
			ep.AtRisk[m][a]++
		}
	}
	ep.Entered[a]++
	st.Sessions[a]++
	return session.Part{Customer: k, Epoch: ep.Start}
}
