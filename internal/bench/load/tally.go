package load

// tally is what one connection has counted in one round.
type tally struct {
	latency         latencies
	late            latencies // how late sending began
	beacons         int64     // answered well
	failed          int64
	bytes           int64
	hostile         int64
	statuses        map[int]int
	hostileStatuses map[int]int // 0: no answer
	canary          Arm
	baseline        Arm
}

func newTally() *tally {
	return &tally{statuses: map[int]int{}, hostileStatuses: map[int]int{}}
}

func (t *tally) arm(name string) *Arm {
	if name == "canary" {
		return &t.canary
	}
	return &t.baseline
}

func (a *Arm) add(b Arm) {
	a.Events += b.Events
	a.Accepted += b.Accepted
	a.Shed += b.Shed
}

func (t *tally) merge(o *tally) {
	t.latency.merge(&o.latency)
	t.late.merge(&o.late)
	t.beacons += o.beacons
	t.failed += o.failed
	t.bytes += o.bytes
	t.hostile += o.hostile
	for s, n := range o.statuses {
		t.statuses[s] += n
	}
	for s, n := range o.hostileStatuses {
		t.hostileStatuses[s] += n
	}
	t.canary.add(o.canary)
	t.baseline.add(o.baseline)
}
