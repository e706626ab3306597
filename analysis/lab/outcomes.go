package lab

import (
	"fmt"
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// outcomes is the engine that is told what sessions come to. First beacons are
// rows of one batch, made once: the test sees rows that look the same for all
// sessions of a kind. Their times are those of the first such session: what
// counts of them is the age of a report, which is hours for all reports of
// sessions that were forgotten.
type outcomes struct {
	rows  *batch.Batch
	row   map[kind]int
	test  *canary.Test
	table *session.Table
	s     session.Session
	well  [2]session.Key // of all sessions that are not silent, by arm
	names names
	// Sessions that the table has forgotten and that report in the cell at
	// hand: they come in between those that begin in it.
	back []returned
	next int // of back
}

// kind is all that the first beacon that is seen of a session tells.
type kind struct {
	part                  part
	stratum               uint8
	canary                bool
	user, network, tenant int32
}

// returned is a session that is entered once more, by its late report.
type returned struct {
	index int // of the report among those that arrive in the cell
	v     visit
	at    int64
}

func newOutcomes() *outcomes {
	o := &outcomes{rows: newBatch(), row: map[kind]int{}}
	for arm := range 2 {
		o.well[arm] = session.Key{Tenant: labTenant, App: "lab", ID: fmt.Sprintf("well-%d", arm)}
	}
	return o
}

// rowOf returns the row of the first beacon that the table knows of a session.
func (o *outcomes) rowOf(v *visit, at int64, p part) int {
	k := kind{p, v.stratum, v.canary, v.user, v.network, v.tenant}
	row, ok := o.row[k]
	if !ok {
		row = o.rows.Len()
		o.row[k] = row
		bc := o.names.beacon(&signal{at, p, *v})
		o.rows.Append(1, 0, &bc)
	}
	return row
}

func (o *outcomes) begin(r canary.Rollout) *canary.Test {
	o.test, o.table = canary.NewTest(labTenant, r, origin), session.NewTable()
	for arm, k := range o.well {
		o.table.Sessions[k] = &session.Session{Key: k, Beacons: 2, Seen: allSeen, Enrolled: []session.Enrollment{{Rollout: r.ID, Canary: arm == 1}}}
	}
	return o.test
}

func (o *outcomes) open(arriving []signal) {
	o.back, o.next = o.back[:0], 0
	for i := range arriving {
		if s := &arriving[i]; s.part == report && s.at-s.v.seen > session.TTL {
			o.back = append(o.back, returned{i, s.v, s.at})
		}
	}
	slices.SortStableFunc(o.back, func(a, b returned) int { return int(a.at - b.at) })
}

// until enters who returned up to a time. Nothing is heard of them from then on.
func (o *outcomes) until(at int64) {
	for ; o.next < len(o.back) && o.back[o.next].at <= at; o.next++ {
		r := &o.back[o.next]
		o.enroll(&r.v, r.at, report, true)
	}
}

func (o *outcomes) enter(v *visit) {
	o.until(v.at)
	o.enroll(v, v.at, exposure, v.has(session.Telemetry))
}

// enroll enters a session at a time and notes its place. Of the sessions that
// are heard of again the table holds one for all.
func (o *outcomes) enroll(v *visit, at int64, p part, silent bool) {
	arm := 0
	if v.canary {
		arm = 1
	}
	key := o.well[arm]
	alone := silent || v.user >= 0 // the table then knows whether it is the user's first
	if alone {
		key.ID = o.names.of(v.number)
	}
	o.s = session.Session{Key: key, Entered: at, Last: at, Beacons: 1, Enrolled: o.s.Enrolled[:0]}
	o.test.Enter(&o.s, o.rows, o.rowOf(v, at, p))
	if len(o.s.Enrolled) == 0 {
		v.failed = 0 // it takes no part: what it tells does not count
		return
	}
	v.place = o.s.Enrolled[0]
	if alone {
		s := o.s
		if !silent {
			s.Beacons, s.Seen = 2, allSeen
		}
		s.Enrolled = []session.Enrollment{v.place}
		o.table.Sessions[key] = &s
	}
}

func (o *outcomes) close(arrived []signal, end int64) {
	o.until(end)
	for _, r := range o.back {
		arrived[r.index].v.place, arrived[r.index].v.failed = r.v.place, r.v.failed
	}
	for i := range arrived {
		s := &arrived[i]
		for m := range session.Metrics {
			if s.v.has(m) {
				o.test.Fail(s.v.place, m)
			}
		}
	}
	o.test.Advance(end, o.table)
}

func (o *outcomes) needsAll() bool { return false }

const labTenant = "lab"

func newBatch() *batch.Batch {
	id, err := tenant.Stored(labTenant)
	if err != nil {
		panic("BUG: the name of the lab's tenant: " + err.Error())
	}
	return batch.New(batch.Partition{Tenant: id, App: "lab", Release: "lab"})
}

// allSeen is what a session reports of which nothing is missing.
const allSeen = session.Shown | session.SeenLCP | session.SeenINP | session.SeenCLS

// beacon returns a beacon of a session.
func (n *names) beacon(s *signal) event.Beacon {
	v := &s.v
	variant := "baseline"
	if v.canary {
		variant = "canary"
	}
	bc := event.Beacon{SDK: "lab/1", App: "lab", Release: "lab", Session: n.of(v.number), Seq: uint32(s.part), Sent: s.at, Received: s.at,
		Arms:   []event.Arm{{Change: "release/2", Variant: variant}},
		Ctx:    event.Context{Device: strata[v.stratum]},
		Events: []event.One{{Kind: event.Exposure, Name: "release/2", Time: s.at}}}
	if v.user >= 0 {
		bc.User = n.of(v.user)
	}
	if v.network >= 0 {
		bc.Ctx.Prefix = n.of(v.network)
	}
	if v.tenant >= 0 {
		bc.Ctx.Env = n.of(v.tenant)
	}
	if s.part != exposure {
		bc.Events = failures(s)
	}
	return bc
}

// names holds the ids of sessions, users, networks and customers, which rollouts
// share.
type names struct{ ids []string }

func (n *names) of(number int32) string {
	for len(n.ids) <= int(number) {
		n.ids = append(n.ids, fmt.Sprintf("number-%d", len(n.ids)))
	}
	return n.ids[number]
}
