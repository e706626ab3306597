package lab

import (
	"math"
	"math/rand/v2"
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// part says which beacon of a session one is.
type part uint8

const (
	exposure part = iota // the first
	sequel               // some seconds later, with what failed by then
	report               // what failed, told at the next launch
)

// signal is one beacon on its way.
type signal struct {
	at   int64 // when it arrives, ms
	part part
	v    visit
}

// engine takes the beacons of a rollout.
type engine interface {
	// begin starts a rollout.
	begin(r canary.Rollout) *canary.Test
	// open starts a cell, in which beacons arrive of sessions that began before.
	open(arriving []signal)
	// enter takes a first beacon, and may note in v where it was enrolled.
	enter(v *visit)
	// close takes all further beacons that arrive before the end of a cell,
	// in the order of their time, and moves the test there.
	close(arrived []signal, end int64)
	// needsAll reports whether beacons that tell nothing of failures are wanted.
	needsAll() bool
}

// play is one simulated rollout.
type play struct {
	world  world
	rng    *rand.Rand
	harmed session.Metric // metric whose odds are multiplied on the canary
	ratio  float64
	// alter has a hand in each session as it is drawn, if given.
	alter func(v *visit, rng *rand.Rand)
	// extra returns further sessions of a cell, if given: they take no draws, so
	// that all others stay what they are without them.
	extra func(cell int) []visit
	// steer chooses the stage at the start of each cell, if given; else the world
	// does.
	steer func(t *canary.Test, now int64) (stage int)

	queue  [][]signal // by cell of arrival
	copies *rand.Rand // draws what is sent again, which takes no draws from the rest
	seen   int32      // sessions so far
}

// origin is when rollouts begin, in Unix ms. It is not 0, which would look like
// a time that was never set, and divisible by the length of all cells.
const origin = 1_000_000 * 3600_000

// run plays cell after cell, and looks after each until look returns false. A
// look is given the test as it stands at the end of the cell.
func (p *play) run(e engine, r canary.Rollout, look func(t *canary.Test, now int64) bool) {
	w := &p.world
	t := e.begin(r)
	p.queue = make([][]signal, w.cells)
	p.seen = 0
	p.copies = rand.New(rand.NewPCG(p.rng.Uint64(), 1))
	var users []user
	if w.users > 0 {
		users = w.drawUsers(p.rng)
	}
	last := 0
	for cell := range w.cells {
		start := origin + int64(cell)*w.cell
		share, stage := w.weight(cell)
		if p.steer != nil {
			stage = p.steer(t, start)
			share = r.Stages[stage].Weight
		}
		if stage != last {
			t.SetStage(stage, start)
			last = stage
		}
		e.open(p.queue[cell])
		c := w.climate(cell, share, p.rng, p.harmed, p.ratio)
		for at := p.rng.ExpFloat64() / c.rate; at < float64(w.cell); at += p.rng.ExpFloat64() / c.rate {
			p.visit(e, &c, users, start+int64(at), cell)
		}
		if p.extra != nil {
			for _, v := range p.extra(cell) {
				v.number, v.at, v.seen = p.seen, start+w.cell-1, start+w.cell+second
				p.seen++
				e.enter(&v)
				p.post(e, signal{v.seen, sequel, v})
			}
		}
		arrived := p.queue[cell]
		if e.needsAll() {
			slices.SortStableFunc(arrived, func(a, b signal) int { return int(a.at - b.at) })
		}
		end := start + w.cell
		e.close(arrived, end)
		p.queue[cell] = nil
		if !look(t, end) {
			return
		}
	}
}

// visit draws a session and its beacons.
func (p *play) visit(e engine, c *climate, users []user, at int64, cell int) {
	w, rng := &p.world, p.rng
	v := visit{number: p.seen, user: -1, network: -1, tenant: -1, at: at}
	p.seen++
	frailty := 1.0
	if users != nil {
		k, _ := slices.BinarySearchFunc(users, rng.Float64(), func(u user, x float64) int {
			if u.until <= x {
				return -1
			}
			return 1
		})
		u := &users[min(k, len(users)-1)]
		v.user, v.stratum, v.canary, frailty = int32(k), u.stratum, u.canary, u.frailty
	} else {
		for x := rng.Float64(); int(v.stratum) < len(c.mix)-1 && x >= c.mix[v.stratum]; {
			v.stratum++
		}
		v.canary = rng.Float64() < c.share[v.stratum]
	}
	arm := 0
	if v.canary {
		arm = 1
	}
	for m, o := range c.odds[v.stratum][arm] {
		o *= frailty
		if rng.Float64()*(1+o) < o {
			v.failed |= 1 << m
		}
	}
	if p.alter != nil {
		p.alter(&v, rng)
		if v.lost {
			return
		}
	}
	late := w.delay != nil && v.failed != 0
	v.seen = at + second + rng.Int64N(19*second)
	var due int64
	if late {
		due = v.seen + w.delay(rng)
	}
	if v.failed&^(1<<session.Telemetry) != 0 && v.has(session.Telemetry) {
		// Who falls silent tells of no failure either.
		v.failed = 1 << session.Telemetry
	}
	e.enter(&v)
	p.again(e, signal{at, exposure, v}, cell)
	if v.has(session.Telemetry) {
		return
	}
	switch {
	case late:
		well := v
		well.failed = 0
		p.send(e, signal{v.seen, sequel, well}, cell)
		p.send(e, signal{due, report, v}, cell)
	default:
		p.send(e, signal{v.seen, sequel, v}, cell)
	}
}

// send puts a beacon on its way, and perhaps again.
func (p *play) send(e engine, s signal, cell int) {
	p.post(e, s)
	p.again(e, s, cell)
}

// again sends a beacon once more, as a client does who got no answer.
func (p *play) again(e engine, s signal, cell int) {
	copied := p.world.copied[0]
	if s.v.canary {
		copied = p.world.copied[1]
	}
	for copied > 0 && p.copies.Float64() < copied {
		s.at += second + p.copies.Int64N(2*minute)
		p.post(e, s)
	}
}

func (p *play) post(e engine, s signal) {
	if !e.needsAll() && s.v.failed&^(1<<session.Telemetry) == 0 {
		return
	}
	if cell := (s.at - origin) / p.world.cell; cell < int64(len(p.queue)) {
		p.queue[cell] = append(p.queue[cell], s)
	}
}

// rules returns the rollout that a world is judged under: its stages, none of
// which ends, and the default policy cut by device, a cell being an epoch.
func (w *world) rules(change func(*canary.Policy)) canary.Rollout {
	r := canary.Rollout{ID: "lab", App: "lab", Change: "release/2", Canary: "2", Baseline: "1",
		Policy: canary.Policy{Strata: []string{"device"}, Epoch: canary.Duration(w.cell * 1e6), Settle: 1}}
	for _, weight := range w.stages {
		r.Stages = append(r.Stages, canary.Stage{Weight: weight, MinSessions: 1, Dwell: 1, Deadline: canary.Duration(math.MaxInt64)})
	}
	if change != nil {
		change(&r.Policy)
	}
	if w.users > 0 { // arms are of users, whose sessions are no independent draws
		all := map[string]canary.Guardrail{}
		for m := range session.Metrics {
			g := r.Policy.Guardrails[m.String()]
			g.Unit = canary.UnitUser
			all[m.String()] = g
		}
		r.Policy.Guardrails = all
	}
	if err := r.Normalize(); err != nil {
		panic("BUG: the rules of a world: " + err.Error())
	}
	return r
}

// ask returns the verdict at a time.
func ask(t *canary.Test, now int64) verdict.Verdict {
	return t.Decide(canary.Question{At: now, Position: 1})
}
