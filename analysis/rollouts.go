package analysis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/cell"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// Status is a rollout with the newest answer for it.
type Status struct {
	Rollout canary.Rollout  `json:"rollout"`
	Stage   int             `json:"stage"`
	Created time.Time       `json:"created"`
	Staged  time.Time       `json:"stage_began"`
	Verdict verdict.Verdict `json:"verdict"`
}

// Create registers a rollout; sessions count from now on. It answers
// [canary.ErrInvalid] or [ErrExists].
func (e *Engine) Create(ctx context.Context, id tenant.ID, r canary.Rollout) (Status, error) {
	if err := e.o.Policies.resolve(id.String(), &r); err != nil {
		return Status{}, err
	}
	if err := r.Normalize(); err != nil {
		return Status{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), r.ID}
	if _, ok := e.find(k); ok {
		return Status{}, fmt.Errorf("id %q: %w", r.ID, ErrExists)
	}
	if err := e.command(ctx, Record{Type: TypeRollout, Tenant: k.Tenant, ID: k.ID, Rollout: &r}); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// SetStage moves a rollout to its next stage, or back to an earlier one. Going
// forward needs a promote that has not run out; a rollback forbids it.
func (e *Engine) SetStage(ctx context.Context, id tenant.ID, rollout string, stage int) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	t, ok := e.find(k)
	if !ok {
		return Status{}, fmt.Errorf("rollout %q: %w", rollout, ErrNotFound)
	}
	if stage < 0 || stage >= len(t.Rollout.Stages) || stage > t.Stage+1 {
		return Status{}, fmt.Errorf("stage %d: %w: want 0 to %d, one step ahead at most of %d", stage, ErrStage, len(t.Rollout.Stages)-1, t.Stage)
	}
	v := e.answer(k)
	if stage > t.Stage && v.At(e.o.Now()) != verdict.Promote {
		return Status{}, fmt.Errorf("stage %d: %w: the verdict for stage %d is %s", stage, ErrStage, t.Stage, v.At(e.o.Now()))
	}
	if err := e.command(ctx, Record{Type: TypeStage, Tenant: k.Tenant, ID: k.ID, Stage: stage}); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// Override records a person's decision, which goes before the evidence until
// it is withdrawn (an empty decision). Who is the token's name.
func (e *Engine) Override(ctx context.Context, id tenant.ID, rollout string, f canary.Force) (Status, error) {
	var d verdict.Decision
	if err := d.UnmarshalText([]byte(f.Decision)); f.Decision != "" && err != nil {
		return Status{}, fmt.Errorf("%w: %w", canary.ErrInvalid, err)
	}
	if f.Why == "" || len(f.Why) > event.MaxMessage {
		return Status{}, fmt.Errorf("%w: why: want 1 to %d bytes", canary.ErrInvalid, event.MaxMessage)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	if _, ok := e.find(k); !ok {
		return Status{}, fmt.Errorf("rollout %q: %w", rollout, ErrNotFound)
	}
	f.At = e.o.Now().UnixMilli()
	if err := e.command(ctx, Record{Type: TypeOverride, Tenant: k.Tenant, ID: k.ID, Force: &f}); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// command records a command and applies it, and gives the verdict that
// follows. The caller holds mu and has checked the command.
func (e *Engine) command(ctx context.Context, r Record) error {
	now := e.o.Now()
	r.At, r.Position = now.UnixMilli(), e.position
	pos, err := e.record(ctx, r)
	if err != nil {
		return err
	}
	apply(e.fold.Tests, r)
	e.control = pos
	if !e.ready {
		return nil
	}
	return e.evaluate(ctx, now)
}

// find returns a rollout's test. The caller holds mu.
func (e *Engine) find(k rolloutKey) (*canary.Test, bool) {
	t, ok := e.fold.Tests[k]
	return t, ok
}

func (e *Engine) status(k rolloutKey) Status {
	t := e.fold.Tests[k]
	return Status{Rollout: t.Rollout, Stage: t.Stage, Created: time.UnixMilli(t.Created).UTC(), Staged: time.UnixMilli(t.Staged).UTC(), Verdict: e.answer(k)}
}

// answer returns the newest evaluation, or an unnumbered hold before the first
// one. The caller holds mu.
func (e *Engine) answer(k rolloutKey) verdict.Verdict {
	if l := e.latest[k]; l != nil {
		return l.current
	}
	t := e.fold.Tests[k]
	return verdict.Verdict{Version: 1, Tenant: k.Tenant, Rollout: k.ID, App: t.Rollout.App, Change: t.Rollout.Change,
		Reasons: []verdict.Reason{{Code: verdict.Stale, Text: "no evaluation yet"}}}
}

// List returns a tenant's rollouts, newest first.
func (e *Engine) List(id tenant.ID) []Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Status
	for k := range e.fold.Tests {
		if k.Tenant == id.String() {
			all = append(all, e.status(k))
		}
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Rollout.ID, b.Rollout.ID))
	})
	return all
}

// Status returns one rollout of a tenant, or [ErrNotFound].
func (e *Engine) Status(id tenant.ID, rollout string) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	if _, ok := e.find(k); !ok {
		return Status{}, fmt.Errorf("rollout %q: %w", rollout, ErrNotFound)
	}
	return e.status(k), nil
}

// Wait returns the rollout's answer as soon as it is final for the stage (not
// a hold) or its number is above after, and else when ctx ends: then the
// answer is the current one, without an error.
func (e *Engine) Wait(ctx context.Context, id tenant.ID, rollout string, after uint64) (verdict.Verdict, error) {
	for {
		e.mu.Lock()
		k := rolloutKey{id.String(), rollout}
		if _, ok := e.find(k); !ok {
			e.mu.Unlock()
			return verdict.Verdict{}, fmt.Errorf("rollout %q: %w", rollout, ErrNotFound)
		}
		v, changed := e.answer(k), e.changed
		e.mu.Unlock()
		if v.Decision != verdict.Hold && after == 0 || after > 0 && v.Number > after {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, nil
		case <-changed:
		}
	}
}

// Evidence is what a rollout's verdicts rest on.
type Evidence struct {
	Status
	History []verdict.Verdict `json:"history"` // all verdicts, oldest first
	Strata  []StratumEvidence `json:"strata"`
	Cells   []CellEvidence    `json:"cells"` // of the rollout's app since it was created
}

// StratumEvidence counts one stratum's sessions and failures.
type StratumEvidence struct {
	Name     string                  `json:"name"`
	Sessions verdict.Arms            `json:"sessions"`
	Failures map[string]verdict.Arms `json:"failures"` // by guardrail
}

// CellEvidence sums the cells of one release and metric.
type CellEvidence struct {
	Release string        `json:"release"`
	Metric  string        `json:"metric"`
	Exposed int64         `json:"exposed"`
	Failed  int64         `json:"failed"`
	P75     verdict.Bound `json:"p75"` // of a vital's values; null for a guardrail
}

// Evidence returns the evidence of one rollout, or [ErrNotFound].
func (e *Engine) Evidence(id tenant.ID, rollout string) (Evidence, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	t, ok := e.find(k)
	if !ok {
		return Evidence{}, fmt.Errorf("rollout %q: %w", rollout, ErrNotFound)
	}
	ev := Evidence{Status: e.status(k)}
	for _, r := range e.records[k] {
		if r.Verdict != nil {
			ev.History = append(ev.History, *r.Verdict)
		}
	}
	for i := range t.Strata {
		st := &t.Strata[i]
		se := StratumEvidence{Name: st.Name, Sessions: verdict.Arms{Canary: st.Sessions[1], Baseline: st.Sessions[0]}, Failures: map[string]verdict.Arms{}}
		for m := range session.Metrics {
			se.Failures[m.String()] = verdict.Arms{Canary: st.Failures[m][1], Baseline: st.Failures[m][0]}
		}
		ev.Strata = append(ev.Strata, se)
	}
	from := t.Created - t.Created%60_000
	for _, row := range e.fold.Cells.Sum(k.Tenant, t.Rollout.App, from, 1<<62) {
		ev.Cells = append(ev.Cells, cellEvidence(row))
	}
	return ev, nil
}

func cellEvidence(r cell.Row) CellEvidence {
	c := CellEvidence{Release: r.Release, Metric: r.Metric, Exposed: r.Exposed, Failed: r.Failed, P75: verdict.Unknown}
	if r.Values != nil {
		c.P75 = verdict.Bound(r.Values.Quantile(0.75))
	}
	return c
}

// Seen is one recent event, for a person who wants to know what arrives.
type Seen struct {
	Kind     string         `json:"kind"`
	Name     string         `json:"name"`
	Time     int64          `json:"t"`
	Received int64          `json:"received_ms"`
	Value    *float64       `json:"value,omitempty"`
	Unit     string         `json:"unit,omitempty"`
	Message  string         `json:"message,omitempty"`
	App      string         `json:"app"`
	Release  string         `json:"release"`
	Tenancy  string         `json:"tenancy"`
	Session  string         `json:"session"`
	Seq      uint32         `json:"seq"`
	SDK      string         `json:"sdk"`
	Arms     string         `json:"arms,omitempty"`
	Device   string         `json:"device,omitempty"`
	Page     string         `json:"page,omitempty"`
	Env      string         `json:"env,omitempty"`
	User     string         `json:"user,omitempty"`
	Attrs    map[string]any `json:"attrs,omitempty"`
	Position uint64         `json:"position"`
}

// ringSize is how many recent events of a tenant are kept in memory to look at.
const ringSize = 2000

// ring holds the newest events of a tenant: where they stand while their batch
// is not sealed, and afterwards, so that no batch is kept for their sake, what
// they say.
type ring struct {
	rows []recent
	next int
}

type recent struct {
	b    *batch.Batch // nil: seen is filled in
	row  int32
	seen *Seen
}

func (r *recent) get() *Seen {
	if r.b != nil {
		return seen(r.b, int(r.row))
	}
	return r.seen
}

func (e *Engine) remember(id tenant.ID, b *batch.Batch, lo int) {
	r := e.recent[id.String()]
	if r == nil {
		r = &ring{}
		e.recent[id.String()] = r
	}
	for row := lo; row < b.Len(); row++ {
		s := recent{b: b, row: int32(row)}
		if len(r.rows) < ringSize {
			r.rows = append(r.rows, s)
		} else {
			r.rows[r.next] = s
		}
		r.next = (r.next + 1) % ringSize
	}
}

// settle lets go of the batches that the rings refer to.
func (e *Engine) settle() {
	for _, r := range e.recent {
		for i := range r.rows {
			if one := &r.rows[i]; one.b != nil {
				*one = recent{seen: seen(one.b, int(one.row))}
			}
		}
	}
}

func seen(b *batch.Batch, row int) *Seen {
	text := func(c batch.Column) string { return b.Text(c, row) }
	s := &Seen{Kind: text(batch.Kind), Name: text(batch.Name), Time: b.Time(row), Received: b.Received(row), Unit: text(batch.Unit),
		Message: text(batch.Message), App: text(batch.App), Release: text(batch.Release), Tenancy: text(batch.Tenancy), Session: text(batch.Session),
		Seq: b.Seq(row), SDK: text(batch.SDK), Arms: text(batch.Arms), Device: text(batch.Device), Page: text(batch.Page), Env: text(batch.Env),
		User: text(batch.User), Position: b.Position(row)}
	if v, ok := b.Value(row); ok {
		s.Value = &v
	}
	for _, a := range batch.ParseAttrs(text(batch.Attrs)) {
		if s.Attrs == nil {
			s.Attrs = map[string]any{}
		}
		if a.Num {
			s.Attrs[a.Key] = a.Number
		} else {
			s.Attrs[a.Key] = a.Text
		}
	}
	return s
}

// Recent returns up to limit of a tenant's newest events of an app (or of all,
// where app is empty), newest first. Only events folded since this process
// started are known.
func (e *Engine) Recent(id tenant.ID, app string, limit int) []Seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.recent[id.String()]
	var out []Seen
	for i := 0; r != nil && i < len(r.rows) && len(out) < limit; i++ {
		s := r.rows[(r.next-1-i+2*len(r.rows))%len(r.rows)].get()
		if app == "" || s.App == app {
			out = append(out, *s)
		}
	}
	return out
}

// Ready reports whether the engine has folded what the journal held at start.
func (e *Engine) Ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready
}
