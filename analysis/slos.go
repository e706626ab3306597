package analysis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// ErrNoObjective says that a tenant has no objective of a name.
var ErrNoObjective = errors.New("no such objective")

// ErrException says that an exception as given cannot be.
var ErrException = errors.New("invalid exception")

// Objectives are the objectives of tenants, by tenant; the names of one tenant's
// differ.
type Objectives map[string][]slo.Objective

// sloKey names an objective among all tenants, stateKey one of its groups.
type (
	sloKey   struct{ Tenant, Name string }
	stateKey struct{ tenant, slo, group string }
)

// sloIssued is the last state that was recorded, and the evaluation that last
// confirmed it.
type sloIssued struct{ recorded, current verdict.SLOState }

// applySLO changes the books as a command says.
func (f *fold) applySLO(r Record) {
	switch r.Type {
	case TypeObjectives:
		kept := map[sloKey]bool{}
		for _, o := range r.Objectives {
			k := sloKey{r.Tenant, o.Name}
			kept[k] = true
			if b := f.Books[k]; b == nil || !b.Replace(o) {
				f.Books[k] = slo.NewBook(o, r.At)
			}
		}
		for k := range f.Books {
			if k.Tenant == r.Tenant && !kept[k] {
				delete(f.Books, k)
			}
		}
	case TypeException:
		if b := f.Books[sloKey{r.Tenant, r.SLO}]; b != nil {
			b.Exceptions = append(slices.DeleteFunc(b.Exceptions, func(e verdict.SLOException) bool { return e.Until.UnixMilli() < r.At }), *r.Exception)
		}
	case TypeRestatement:
		if b := f.Books[sloKey{r.Tenant, r.SLO}]; b != nil {
			b.Late = nil
		}
	}
}

// booksOf returns the books of an app, sorted by their objectives' names. Each watches
// the rollouts under way whose spending of its budget is bounded.
func (f *fold) booksOf(tenant, name string) []*slo.Book {
	if f.books == nil {
		f.books = map[app][]*slo.Book{}
		for _, k := range f.sloKeys() {
			of := app{k.Tenant, f.Books[k].Objective.App}
			f.books[of] = append(f.books[of], f.Books[k])
			var spenders []slo.Rollout
			for _, t := range f.of(of.tenant, of.name) {
				if l := t.Rollout.Policy.Budget; l != nil && l.SLO == k.Name {
					spenders = append(spenders, spender(t))
				}
			}
			f.Books[k].Watch(spenders)
		}
	}
	return f.books[app{tenant, name}]
}

func (f *fold) sloKeys() []sloKey {
	return slices.SortedFunc(maps.Keys(f.Books), func(a, b sloKey) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name)) })
}

// setObjectives records the tenants' objectives where they are not those that the
// fold has, or will have by the commands that it has not reached, so that evaluation
// stays a function of the logs. The caller holds mu.
func (e *Engine) setObjectives(ctx context.Context) error {
	have := map[string]map[string]string{} // digests by tenant and name
	put := func(tenant string, os ...*slo.Objective) {
		if have[tenant] == nil {
			have[tenant] = map[string]string{}
		}
		for _, o := range os {
			have[tenant][o.Name] = o.Digest()
		}
	}
	for k, b := range e.fold.Books {
		put(k.Tenant, &b.Objective)
	}
	for t := range e.o.Objectives {
		put(t)
	}
	for t := range e.documents {
		put(t)
	}
	for _, r := range e.queue {
		if r.Type == TypeObjectives {
			delete(have, r.Tenant)
			put(r.Tenant)
			for i := range r.Objectives {
				put(r.Tenant, &r.Objectives[i])
			}
		}
	}
	for _, t := range slices.Sorted(maps.Keys(have)) {
		os, ok := e.wanted(t)
		if !ok {
			continue
		}
		want := map[string]string{}
		for i := range os {
			want[os[i].Name] = os[i].Digest()
		}
		if maps.Equal(have[t], want) {
			continue
		}
		if err := e.sloCommand(ctx, Record{Type: TypeObjectives, Tenant: t, Objectives: os}); err != nil {
			return err
		}
		e.o.Logger.Info("objectives set", "tenant", t, "objectives", len(want))
	}
	return nil
}

// sloCommand records a command on objectives and applies it. The caller holds mu.
func (e *Engine) sloCommand(ctx context.Context, r Record) error {
	r.ID, r.At = SLOLedger, e.o.Now().UnixMilli()
	if err := e.enact(ctx, r); err != nil {
		return err
	}
	if r.Type != TypeRestatement {
		e.askAgain(r.Tenant)
	}
	return nil
}

// askAgain has a tenant's objectives evaluated though their minute is not over. The
// caller holds mu.
func (e *Engine) askAgain(tenant string) {
	for k := range e.asked {
		if k.Tenant == tenant {
			delete(e.asked, k)
		}
	}
}

// evaluateSLOs asks each objective whose minute is over for its states, records
// those that say something else than the last one, and takes late units into the
// ledger once an hour. The caller holds mu.
func (e *Engine) evaluateSLOs(ctx context.Context, now time.Time) error {
	q := slo.Question{At: now.UnixMilli(), Position: e.position, Behind: e.behind}
	for _, k := range e.fold.sloKeys() {
		b := e.fold.Books[k]
		to := b.Through(q)
		last, asked := e.asked[k]
		if asked && last == to {
			continue
		}
		e.asked[k] = to
		var told []verdict.SLOState
		err := b.Evaluate(k.Tenant, q, func(s *verdict.SLOState) {
			at := stateKey{k.Tenant, k.Name, s.Group}
			prev := e.states[at]
			var recorded *verdict.SLOState
			if prev != nil && prev.recorded.Number > 0 { // of a group nothing may have been recorded yet
				recorded = &prev.recorded
			}
			if news := follow(recorded, s); news {
				c := *s
				c.Alerts = slices.Clone(s.Alerts)
				told = append(told, c)
				return
			}
			if prev == nil {
				prev = &sloIssued{}
				e.states[at] = prev
			}
			alerts := append(prev.current.Alerts[:0:0], s.Alerts...)
			prev.current = *s
			prev.current.Alerts = alerts
		})
		if err != nil {
			return fmt.Errorf("evaluate objective %s of %s: %w", k.Name, k.Tenant, err)
		}
		for i := range told {
			if err := e.tell(ctx, k, &told[i], q); err != nil {
				return err
			}
		}
		if len(b.Late) > 0 && (!asked || last/60 != to/60) {
			if err := e.sloCommand(ctx, Record{Type: TypeRestatement, Tenant: k.Tenant, SLO: k.Name, Restated: b.Late}); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell records a state, which is the outbox of whoever alerts. The caller holds mu.
func (e *Engine) tell(ctx context.Context, k sloKey, s *verdict.SLOState, q slo.Question) error {
	r := Record{Type: TypeSLOState, Tenant: k.Tenant, ID: SLOLedger, At: q.At, Position: q.Position, Behind: q.Behind, SLO: k.Name, State: s}
	if _, err := e.record(ctx, r); err != nil {
		return err
	}
	e.states[stateKey{k.Tenant, k.Name, s.Group}] = &sloIssued{recorded: *s, current: *s}
	e.o.Logger.Info("objective", "tenant", k.Tenant, "slo", k.Name, "group", s.Group, "number", s.Number, "data", s.Data.String(), "action", s.Action.String(), "sentence", s.Sentence)
	e.wake()
	return nil
}

// follow fills in what a state has from the one recorded before it, which may be
// nil, and reports whether it says something else, so that it is to be recorded.
func follow(prev, s *verdict.SLOState) (news bool) {
	s.Number = 0
	if prev == nil {
		// A group that nothing is to be said of is not worth a record.
		news = s.Group == "" || s.Incident != nil || s.Action != verdict.Allow || s.Data == verdict.Uninstrumented
	} else {
		s.Number = prev.Number
		if prev.Incident != nil && s.Incident != nil {
			since := *s.Incident // the evaluation's own is not changed
			since.Since = prev.Incident.Since
			s.Incident = &since
		}
		news = s.Action != prev.Action || s.Digest != prev.Digest || (s.Exception == nil) != (prev.Exception == nil) || worth(s) != worth(prev) || !sameIncident(s.Incident, prev.Incident)
	}
	if news {
		s.Number++
	}
	return news
}

// worth is what the data are worth, as far as a record tells it: that a group has
// no traffic is how releases end.
func worth(s *verdict.SLOState) verdict.Data {
	if s.Group != "" && s.Data == verdict.NoTraffic {
		return verdict.DataOK
	}
	return s.Data
}

func sameIncident(a, b *verdict.SLOIncident) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Severity == b.Severity && slices.Equal(a.Alerts, b.Alerts)
}

// SLOs returns the newest states of a tenant's objectives, sorted by objective and
// group; of all tenants' where the ID is zero. name, if not empty, names the one
// objective that is wanted.
func (e *Engine) SLOs(id tenant.ID, name string) []verdict.SLOState {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []verdict.SLOState
	for k, s := range e.states {
		if _, there := e.fold.Books[sloKey{k.tenant, k.slo}]; there && (id.IsZero() || k.tenant == id.String()) && (name == "" || k.slo == name) {
			all = append(all, s.current)
		}
	}
	slices.SortFunc(all, func(a, b verdict.SLOState) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.SLO, b.SLO), cmp.Compare(a.Group, b.Group))
	})
	return all
}

// book returns a tenant's book. The caller holds mu.
func (e *Engine) book(id tenant.ID, name string) (*slo.Book, error) {
	b := e.fold.Books[sloKey{id.String(), name}]
	if b == nil {
		return nil, fmt.Errorf("objective %q: %w", name, ErrNoObjective)
	}
	return b, nil
}

// Objective returns a tenant's objective, or [ErrNoObjective].
func (e *Engine) Objective(id tenant.ID, name string) (slo.Objective, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, err := e.book(id, name)
	if err != nil {
		return slo.Objective{}, err
	}
	return b.Objective, nil
}

// WhoSpent attributes what was spent of an objective's budget in its window, or
// returns [ErrNoObjective].
func (e *Engine) WhoSpent(id tenant.ID, name string) (slo.Who, error) {
	e.mu.Lock()
	b, err := e.book(id, name)
	if err != nil {
		e.mu.Unlock()
		return slo.Who{}, err
	}
	s, err := b.Spending(id.String(), slo.Question{At: e.o.Now().UnixMilli(), Position: e.position, Behind: e.behind})
	e.mu.Unlock() // the sums are computed without the fold
	if err != nil {
		return slo.Who{}, fmt.Errorf("objective %q: %w", name, err)
	}
	return s.Who(), nil
}

// maxException is how long an exception may last.
const maxException = 30 * 24 * time.Hour

// Except lets a pipeline pass an objective's budget until a time. Who is the
// token's name. It is recorded for good; it answers [ErrException] or
// [ErrNoObjective].
func (e *Engine) Except(ctx context.Context, id tenant.ID, name string, x verdict.SLOException) error {
	now := e.o.Now().UTC()
	if x.Why == "" || len(x.Why) > event.MaxMessage {
		return fmt.Errorf("%w: why: %d bytes: want 1 to %d", ErrException, len(x.Why), event.MaxMessage)
	}
	if !x.Until.After(now) || x.Until.Sub(now) > maxException {
		return fmt.Errorf("%w: until: %s: want a time within the next %v", ErrException, x.Until.Format(time.RFC3339), maxException)
	}
	if x.Action == verdict.Freeze {
		return fmt.Errorf("%w: action: %s: want allow or approval", ErrException, x.Action)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.book(id, name); err != nil {
		return err
	}
	x.At = now.Truncate(time.Millisecond)
	if err := e.settled(); err != nil {
		return fmt.Errorf("objective %q: %w", name, err)
	}
	if err := e.sloCommand(ctx, Record{Type: TypeException, Tenant: id.String(), SLO: name, Exception: &x}); err != nil {
		return err
	}
	if !e.ready {
		return nil
	}
	return e.evaluateSLOs(ctx, now)
}
