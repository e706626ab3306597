package canary

import (
	"math"
	"slices"
	"strings"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/sketch"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Test is the running test of one rollout: what its sessions have done so far,
// as sufficient statistics. It is a pure function of the rollout, its stage
// changes and the rows it was shown, in their order. All exported fields are
// kept in checkpoints.
//
// Sessions are compared like with like: in groups that share a stratum and an
// epoch, which is a few seconds of the receive time of their first beacon. An
// epoch's at-risk counts are frozen when it closes, so that the share with
// which a failure falls to the canary under the null is known before the
// failure is scored, whenever it arrives (docs/statistics.md).
type Test struct {
	Tenant  string
	Rollout Rollout
	Created int64 // Unix ms
	Stage   int
	Staged  int64 // Unix ms when the stage began
	Now     int64 // highest receive time folded, Unix ms

	Strata   []Stratum // in the order of their first session
	Ratio    evalue.Ratio
	Sessions [2]int64 // by arm: baseline, canary
	Matured  [2]int64 // sessions older than silence_after
	Reported [2]int64 // sessions older than report_after
	Users    sketch.HLL
	Watch    []Watch // sessions not yet matured, oldest first
	Reports  []Watch // matured sessions that are younger than report_after, oldest first

	Before Standing  // when the stage began
	People People    // where a guardrail counts users
	Parts  []Stratum // the customers of the app, where the policy names them, in the order of their first session
	// Senders are the networks with most sessions, Failers those with most
	// failures.
	Senders, Failers Networks

	// Instruments are the SDKs that measured sessions, in the order of their
	// first one, at most maxInstruments.
	Instruments []Instrument
	// Lost tests whether the sessions that lost events to shedding at the edge
	// fall to the canary as all sessions do.
	Lost evalue.Ratio

	// Assigned is what is told of clients that were assigned to the arms.
	Assigned Assignment

	// Numbers are the guardrails on values, by name; Tallies what sessions, and
	// UserTallies what users, have come to that are younger than report_after,
	// by hash.
	Numbers     []Number
	Tallies     map[uint64]Tally
	UserTallies map[uint64]Tally

	Trace Trace // the evidence over time

	// Starts are the app's sessions of the last hour and the canary's among them, by
	// their start. Delivered is when a receiver took the rollback, in Unix ms, and
	// Reference what started before it; 0: none did.
	Starts    []StartMinute
	Delivered int64
	Reference verdict.Starts

	ForcedBy *Force // a person's decision, if any
	Latched  bool   // rolled back, for good
	Why      verdict.Reason
	grid     *evalue.Grid
	rates    [session.Metrics]Guardrail // the policy's, which does not change
	byUser   bool                       // a guardrail counts users
	index    map[string]int
	parts    map[string]int
	ranked   []int // indices of Strata, see rank
	ripe     []matured
	blocks   []block
}

// ShadowSuffix ends the ID of the rollout of a test that tries another policy
// beside the active one. No ID that a client gives can hold it.
const ShadowSuffix = "#shadow"

// Shadow reports whether the test tries another policy beside the active one.
func (t *Test) Shadow() bool { return strings.HasSuffix(t.Rollout.ID, ShadowSuffix) }

// Under returns the test's rollout under another policy, for a test beside it:
// with the policy's stages, or those of the rollout where it has none. It
// answers [ErrInvalid].
func (t *Test) Under(p Policy) (Rollout, error) {
	r := t.Rollout
	stages := p.Stages
	if stages == nil {
		for _, s := range r.Stages {
			s.OnDeadline = "" // the new policy's to say
			stages = append(stages, s)
		}
	}
	r.Stages, r.Policy = slices.Clone(stages), p
	if err := r.Normalize(); err != nil {
		return Rollout{}, err
	}
	r.ID += ShadowSuffix
	return r, nil
}

// Standing counts what a test had seen at some time.
type Standing struct {
	Sessions [2]int64                  // by arm: baseline, canary
	Failures [session.Metrics][2]int64 // of what the guardrail counts
}

// Watch is a session whose telemetry is awaited.
type Watch struct {
	Key session.Key
	Due int64
}

// Force is a person's decision, with who and why.
type Force struct {
	Decision string `json:"decision"`
	Who      string `json:"who"`
	Why      string `json:"why"`
	At       int64  `json:"at"` // Unix ms
}

// NewTest starts the test of a normalized rollout at a time in Unix ms.
func NewTest(tenant string, r Rollout, at int64) *Test {
	t := &Test{Tenant: tenant, Rollout: r, Created: at, Staged: at, Ratio: evalue.NewRatio()}
	t.startNumbers()
	t.Restore()
	return t
}

// Restore rebuilds what a checkpoint does not hold. Call it after decoding.
func (t *Test) Restore() {
	t.grid = evalue.NewGrid()
	for m := range session.Metrics {
		t.rates[m] = t.Rollout.Policy.Guardrails[m.String()]
		t.byUser = t.byUser || t.ofUsers(m)
	}
	for i := range t.Numbers {
		t.byUser = t.byUser || t.rule(i).Unit == UnitUser
	}
	if t.Tallies == nil {
		t.Tallies = map[uint64]Tally{}
	}
	if t.UserTallies == nil {
		t.UserTallies = map[uint64]Tally{}
	}
	t.index = map[string]int{}
	for i := range t.Strata {
		t.index[t.Strata[i].Name] = i
	}
	t.rank()
	t.parts = map[string]int{}
	for i := range t.Parts {
		t.parts[t.Parts[i].Name] = i
	}
	t.Senders.restore()
	t.Failers.restore()
	if t.People.Known == nil {
		t.People.Known = map[uint64]Person{}
	}
}

// standing returns what the test has seen by now.
func (t *Test) standing() Standing {
	s := Standing{Sessions: t.Sessions}
	for k := range t.Strata {
		for m := range session.Metrics {
			s.Failures[m][0] += t.Strata[k].Failures[m][0]
			s.Failures[m][1] += t.Strata[k].Failures[m][1]
		}
	}
	return s
}

func (t *Test) guardrail(m session.Metric) *Guardrail { return &t.rates[m] }

// SetStage moves the rollout to a stage at a time in Unix ms. Epochs end with the
// stage: sessions are compared with those that had the same chance.
func (t *Test) SetStage(stage int, at int64) {
	t.Stage, t.Staged, t.Before = stage, at, t.standing()
	networks := t.ledger()
	for _, all := range [][]Stratum{t.Strata, t.Parts} {
		for k := range all {
			if n := len(all[k].Open); n > 0 {
				all[k].Open[n-1].close(&networks)
			}
		}
	}
	t.turn()
}

// Enter enrolls a session by its first beacon, which begins at row lo of b. A
// session that takes no part in the rollout is left alone. So is one that tells of
// what is older than [session.TTL], such as a crash that is reported at the next
// launch: the table has forgotten that it was counted when it began. Counted
// again it would be of an arm by the share of back then, and fail for sure.
func (t *Test) Enter(s *session.Session, b *batch.Batch, lo int) {
	canary, ok := t.Rollout.Arm(batch.ParseArms(b.Text(batch.Arms, lo)), event.Release(b.Text(batch.Release, lo)))
	if b.Text(batch.Tenancy, lo) != t.Rollout.Policy.Tenancy {
		return
	}
	t.start(b.Time(lo), b.Received(lo), ok && canary)
	if !ok {
		return
	}
	if b.Received(lo)-b.Time(lo) > session.TTL {
		return
	}
	k := t.stratum(b, lo)
	st := &t.Strata[k]
	ep := st.open(s.Entered - s.Entered%t.Rollout.Policy.Epoch.ms())
	a := side(canary)
	e := session.Enrollment{Rollout: t.Rollout.ID, Canary: canary, Stratum: k, Epoch: ep.Start, Network: b.Text(batch.Prefix, lo)}
	user := b.Text(batch.User, lo)
	if user == "" {
		user = s.Key.ID // without a user hash each session counts as one user
	}
	leads := false
	if t.byUser {
		e.User = hash(user)
		leads = t.People.meet(e.User, Person{Stratum: k, Epoch: ep.Start, Canary: canary}, s.Entered)
		e.Leads = leads
	}
	st.Sessions[a]++
	t.Sessions[a]++
	t.Instruments[t.instrument(b.Text(batch.SDK, lo))].Sessions[a]++
	if canary {
		t.Users.Add(hash(user))
	}
	t.Senders.count(e.Network, balance(canary, t.Rollout.Stages[t.Stage].Weight)).Sessions[a]++
	ep.enter(e.Network, a, func(m session.Metric) bool { return leads || !t.ofUsers(m) })
	if t.Rollout.Policy.Tenants != "" {
		e.Part = t.enterPart(b, lo, s.Entered, a, leads)
		if leads {
			t.People.place(e.User, e.Part)
		}
	}
	// Where users are counted arms may be given to users, whose sessions do not
	// fall to them one by one.
	drawn := leads || !t.byUser
	if drawn && s.Entered >= t.Staged+t.Rollout.Policy.Settle.ms() && t.Rollout.Policy.Allocation != AllocationFree {
		t.Ratio.Add(canary, t.Rollout.Stages[t.Stage].Weight)
	}
	t.Watch = await(t.Watch, Watch{Key: s.Key, Due: s.Entered + t.Rollout.Policy.SilenceAfter.ms()})
	s.Enrolled = append(s.Enrolled, e)
	t.awaitNumbers(s, e)
}

// Fail counts a session's first failure of a metric; where the guardrail
// counts users, the user's first one.
func (t *Test) Fail(e session.Enrollment, m session.Metric) {
	if t.ofUsers(m) {
		if m == session.Telemetry && !e.Leads {
			return // a user is silent in their first session or not at all: who has more of them must not count for more
		}
		p, first := t.People.fail(e.User, m)
		if !first || p.Canary != e.Canary {
			return
		}
		// The user stands where their first session does.
		e.Stratum, e.Epoch = p.Stratum, p.Epoch
		e.Part = p.Part
	}
	a := side(e.Canary)
	t.Failers.count(e.Network, 1).Failures[m][a]++
	t.Strata[e.Stratum].fail(e.Epoch, m, a, e.Network)
	if t.Rollout.Policy.Tenants != "" {
		t.Parts[e.Part.Customer].fail(e.Part.Epoch, m, a, e.Network)
	}
}

// Advance moves the test's time: it finds silent sessions in the table, and
// scores the failures of closed epochs. Time that does not pass an epoch's
// boundary changes no evidence.
func (t *Test) Advance(now int64, table *session.Table) {
	if now <= t.Now {
		return
	}
	before := t.Now
	t.Now = now
	epoch := t.Rollout.Policy.Epoch.ms()
	if now/epoch == before/epoch {
		return
	}
	at := moment{now - now%epoch, t.Staged + t.Rollout.Policy.Settle.ms(), now - session.TTL}
	t.listen(table, at.current)
	t.count()
	t.closeBlocks()
	networks := t.ledger()
	for k := range t.Strata {
		t.Strata[k].score(t.grid, at, thinFirst, &networks, k)
	}
	for k := range t.Parts {
		t.Parts[k].score(t.grid, at, thinCustomer, nil, 0)
	}
	t.People.forget(at.forget)
	t.trace(now)
}

// listen fails the sessions that were due to have said more before the current
// epoch, and notes what those of the age of report_after lack. It waits for the
// epoch to end so that the order of beacons within it does not matter.
func (t *Test) listen(table *session.Table, current int64) {
	later := max(t.Rollout.Policy.ReportAfter.ms()-t.Rollout.Policy.SilenceAfter.ms(), 0)
	t.Watch = t.due(t.Watch, table, current, func(w Watch, s *session.Session, e session.Enrollment) {
		t.Matured[side(e.Canary)]++
		if e.Leads {
			t.People.Matured[side(e.Canary)]++
		}
		// The beacon that ends an epoch may be this session's.
		if s.Beacons <= 1 || s.Spoke >= current {
			t.Fail(e, session.Telemetry)
		}
		t.Reports = await(t.Reports, Watch{Key: w.Key, Due: w.Due + later})
	})
	t.Reports = t.due(t.Reports, table, current, func(_ Watch, s *session.Session, e session.Enrollment) {
		a := side(e.Canary)
		t.Reported[a]++
		t.mature(s, e)
		t.enterBlock(s, e, current)
		for l := range session.Losses {
			if s.Lacks(l) {
				t.Strata[e.Stratum].lose(e.Epoch, l, a)
			}
		}
	})
}

// await puts a watch in its place of a queue. Nearly all belong at the end.
func await(queue []Watch, w Watch) []Watch {
	i := len(queue)
	for i > 0 && queue[i-1].Due > w.Due {
		i--
	}
	return slices.Insert(queue, i, w)
}

// due takes the watches that were due by the current epoch off the front of a queue, and does what is
// to be done for each of their sessions that is still known.
func (t *Test) due(queue []Watch, table *session.Table, current int64, do func(Watch, *session.Session, session.Enrollment)) []Watch {
	n := 0
	for ; n < len(queue) && queue[n].Due <= current; n++ {
		s := table.Enrolled(queue[n].Key)
		if s == nil {
			continue
		}
		for _, e := range s.Enrolled {
			if e.Rollout == t.Rollout.ID {
				do(queue[n], s, e)
			}
		}
	}
	// What is behind the front goes when the queue grows next.
	return queue[n:]
}

// Lose counts a session's first loss of events to shedding at the edge. The
// canary's share of the sessions so far is what is expected of it.
func (t *Test) Lose(e session.Enrollment) {
	if all := t.Sessions[0] + t.Sessions[1]; all > 0 {
		t.Lost.Add(e.Canary, float64(t.Sessions[1])/float64(all))
	}
}

func side(canary bool) int {
	if canary {
		return 1
	}
	return 0
}

// hash spreads a text over 64 bits: FNV-1a with the finalizer of MurmurHash3,
// which FNV's weak high bits need before a HyperLogLog. It is the same in every
// process, since sketches are kept.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// logSum returns ln(exp(a)+exp(b)).
func logSum(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
