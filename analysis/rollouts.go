package analysis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/exposure"
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
	// Shadow is the newest answer under a policy that is tried beside the
	// active one, if any.
	Shadow *verdict.Verdict `json:"shadow,omitempty"`
	// Aftermath is what became of its rollback, once that was delivered.
	Aftermath *verdict.Aftermath `json:"aftermath,omitempty"`
	// Ended says that the rollout has ended: its verdict stays, its evidence is
	// in the segments alone.
	Ended bool `json:"ended,omitempty"`
	// Exposure is what the rollout reached and cost, and the next step, where one
	// rollout is asked for that is under way.
	Exposure *exposure.Meter `json:"exposure,omitempty"`
}

// Create registers a rollout; sessions count from now on. It answers
// [canary.ErrInvalid], [ErrExists], [ErrBudget] or [ErrCatchingUp].
func (e *Engine) Create(ctx context.Context, id tenant.ID, r canary.Rollout) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.policies(id.String()).resolve(id.String(), &r); err != nil {
		return Status{}, err
	}
	if err := r.Normalize(); err != nil {
		return Status{}, err
	}
	k := rolloutKey{id.String(), r.ID}
	if err := e.settled(); err != nil {
		return Status{}, fmt.Errorf("rollout %q: %w", k.ID, err) // objectives and states may be in what is still to be read
	}
	if err := checkBudgets(e.objectivesOf(k.Tenant), &r); err != nil {
		return Status{}, err
	}
	if e.exists(k) {
		return Status{}, fmt.Errorf("id %q: %w", r.ID, ErrExists)
	}
	if err := e.checkStart(k.Tenant, &r); err != nil {
		return Status{}, fmt.Errorf("rollout %q: %w", k.ID, err)
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
		return Status{}, e.absent(k)
	}
	if stage < 0 || stage >= len(t.Rollout.Stages) || stage > t.Stage+1 {
		return Status{}, fmt.Errorf("stage %d: %w: stage %d is under way: want 0 to %d", stage, ErrStage, t.Stage, min(t.Stage+1, len(t.Rollout.Stages)-1))
	}
	v := e.answer(k)
	if stage > t.Stage && v.At(e.o.Now()) != verdict.Promote {
		why := ""
		if v.Reasons[0].Code == verdict.BudgetHolds {
			why = ": " + v.Reasons[0].Text
		}
		return Status{}, fmt.Errorf("stage %d: %w: the verdict for stage %d is %s%s", stage, ErrStage, t.Stage, v.At(e.o.Now()), why)
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
		return Status{}, e.absent(k)
	}
	f.At = e.o.Now().UnixMilli()
	if err := e.command(ctx, Record{Type: TypeOverride, Tenant: k.Tenant, ID: k.ID, Force: &f}); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// Assigned tells how many clients were assigned to the arms of a rollout so far.
// It answers [canary.ErrInvalid], [ErrNotFound] or [ErrEnded].
func (e *Engine) Assigned(ctx context.Context, id tenant.ID, rollout string, n Assigned) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	t, ok := e.find(k)
	if !ok {
		return Status{}, e.absent(k)
	}
	if err := t.CheckAssigned(n.Canary, n.Baseline); err != nil {
		return Status{}, err
	}
	if err := e.command(ctx, Record{Type: TypeAssigned, Tenant: k.Tenant, ID: k.ID, Assigned: &n}); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// absent says why there is no such rollout under way.
func (e *Engine) absent(k rolloutKey) error {
	if e.exists(k) {
		return fmt.Errorf("rollout %q: %w", k.ID, ErrEnded)
	}
	if err := e.settled(); err != nil {
		return fmt.Errorf("rollout %q: %w", k.ID, err) // it may be in what is still to be read
	}
	return fmt.Errorf("rollout %q: %w", k.ID, ErrNotFound)
}

// Shadow begins to try a policy beside the active one: sessions count for it
// from now on, and its verdicts are recorded and shown, told to nobody. It takes
// the place of one that was tried before; nil ends the trial. It answers
// [canary.ErrInvalid], [ErrNotFound] or [ErrEnded].
func (e *Engine) Shadow(ctx context.Context, id tenant.ID, rollout string, p *canary.Policy) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	t, ok := e.find(k)
	if !ok {
		return Status{}, e.absent(k)
	}
	r := Record{Type: TypeShadow, Tenant: k.Tenant, ID: k.ID}
	if p != nil {
		shadow := t.Rollout
		shadow.Policy = *p
		if err := e.policies(k.Tenant).resolve(k.Tenant, &shadow); err != nil {
			return Status{}, err
		}
		shadow, err := t.Under(shadow.Policy)
		if err != nil {
			return Status{}, err
		}
		if err := checkBudgets(e.objectivesOf(k.Tenant), &shadow); err != nil {
			return Status{}, err
		}
		r.Rollout = &shadow
	}
	if err := e.command(ctx, r); err != nil {
		return Status{}, err
	}
	return e.status(k), nil
}

// command records a command and applies it, and gives the verdict that
// follows. The caller holds mu and has checked the command.
func (e *Engine) command(ctx context.Context, r Record) error {
	if err := e.settled(); err != nil {
		return fmt.Errorf("%s %s: %w", r.Type, r.ID, err)
	}
	now := e.o.Now()
	r.At = now.UnixMilli()
	if err := e.enact(ctx, r); err != nil {
		return err
	}
	if !e.ready {
		return nil
	}
	// Of this rollout alone: the others are looked at with the next tick.
	k := rolloutKey{r.Tenant, r.ID}
	for _, k := range []rolloutKey{k, k.shadow()} {
		if t := e.fold.Tests[k]; t != nil {
			if err := e.judge(ctx, k, t, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns the test of a rollout that is under way. The caller holds mu.
func (e *Engine) find(k rolloutKey) (*canary.Test, bool) {
	t, ok := e.fold.Tests[k]
	return t, ok && !t.Shadow()
}

// exists reports whether there is such a rollout, under way or ended.
func (e *Engine) exists(k rolloutKey) bool {
	_, ok := e.find(k)
	_, ended := e.fold.Ended[k]
	return ok || ended
}

func (e *Engine) status(k rolloutKey) Status {
	t, ok := e.find(k)
	if !ok {
		end := e.fold.Ended[k]
		return Status{Rollout: end.Rollout, Stage: end.Stage, Created: time.UnixMilli(end.Created).UTC(), Staged: time.UnixMilli(end.Staged).UTC(), Verdict: e.answer(k), Ended: true}
	}
	s := Status{Rollout: t.Rollout, Stage: t.Stage, Created: time.UnixMilli(t.Created).UTC(), Staged: time.UnixMilli(t.Staged).UTC(), Verdict: e.answer(k)}
	if a := e.aftermath[k]; a != nil && t.Delivered != 0 {
		c := a.current
		s.Aftermath = &c
	}
	if l := e.latest[k.shadow()]; l != nil && e.fold.Tests[k.shadow()] != nil {
		v := l.current // the next evaluation overwrites it
		s.Shadow = &v
	}
	return s
}

// answer returns the newest evaluation, or an unnumbered hold before the first
// one. The caller holds mu.
func (e *Engine) answer(k rolloutKey) verdict.Verdict {
	if l := e.latest[k]; l != nil {
		return l.current
	}
	r := e.fold.Ended[k].Rollout
	if t := e.fold.Tests[k]; t != nil {
		r = t.Rollout
	}
	return verdict.Verdict{Version: 1, Tenant: k.Tenant, Rollout: k.ID, App: r.App, Change: r.Change,
		Reasons: []verdict.Reason{{Code: verdict.Stale, Text: "no evaluation yet"}}}
}

// List returns a tenant's rollouts, newest first.
func (e *Engine) List(id tenant.ID) []Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []Status{}
	for k, t := range e.fold.Tests {
		if k.Tenant == id.String() && !t.Shadow() {
			all = append(all, e.status(k))
		}
	}
	for k := range e.fold.Ended {
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
	if !e.exists(k) {
		return Status{}, e.absent(k)
	}
	s := e.status(k)
	if t, ok := e.find(k); ok && e.latest[k] != nil {
		s.measure(t)
	}
	return s, nil
}

// measure reads the exposure meter of the rollout's test.
func (s *Status) measure(t *canary.Test) {
	m := exposure.Read(t.Exposure(&s.Verdict))
	s.Exposure = &m
}

// Wait returns the rollout's answer as soon as it is final for the stage (not
// a hold) or its number is above after, and else when ctx ends: then the
// answer is the current one, without an error.
func (e *Engine) Wait(ctx context.Context, id tenant.ID, rollout string, after uint64) (verdict.Verdict, error) {
	for {
		e.mu.Lock()
		k := rolloutKey{id.String(), rollout}
		if !e.exists(k) {
			err := e.absent(k)
			e.mu.Unlock()
			return verdict.Verdict{}, err
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
