package analysis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/tenant"
)

// Edit is one document as it shall be.
type Edit struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Text  string `json:"text"`  // empty: removed
	Basis uint64 `json:"basis"` // number of the change of it that was seen last; 0: none
}

// Apply is what one record of [TypeApply] did, all at once.
type Apply struct {
	Changes []Change `json:"changes,omitempty"`
	// Objectives are all of the tenant's after it; nil where they stay.
	Objectives []slo.Objective  `json:"objectives,omitzero"`
	Rollouts   []canary.Rollout `json:"rollouts,omitempty"`
}

// Applied is what came of edits.
type Applied struct {
	Changes  []Change `json:"changes"`
	Rollouts []string `json:"rollouts"` // ids
	Notes    []string `json:"notes"`    // what is valid and likely not meant
}

// Apply changes documents and registers rollouts, all of it or nothing, in one
// record. Documents are checked as they stand together after it. All faults are
// told together; they are [canary.ErrInvalid], [ErrBasis], [ErrExists], [ErrBudget] or
// [ErrCatchingUp]. Budgets let rollouts begin or not as they stand before it. With check nothing is recorded, and numbers are those that the
// changes would have.
func (e *Engine) Apply(ctx context.Context, id tenant.ID, who string, edits []Edit, rollouts []canary.Rollout, check bool) (Applied, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applyEdits(ctx, id.String(), who, edits, rollouts, check, 0)
}

// applyEdits is Apply. back is the change after which everything is as it was, 0
// for none. The caller holds mu.
func (e *Engine) applyEdits(ctx context.Context, tenant, who string, edits []Edit, rollouts []canary.Rollout, check bool, back uint64) (Applied, error) {
	if err := e.settled(); err != nil {
		return Applied{}, fmt.Errorf("apply: %w", err)
	}
	if len(edits)+len(rollouts) == 0 {
		return Applied{}, fmt.Errorf("%w: changes, rollouts: none: want at least one", canary.ErrInvalid)
	}
	// JSON makes no text shorter: what is too long as it is need be neither read nor
	// encoded to be refused, as a way back over very much would be.
	least := 0
	for _, x := range edits {
		least += len(x.Text)
		if d := e.documents[tenant]; d != nil {
			least += len(d.current[x.Kind+"/"+x.Name].After)
		}
	}
	if err := fits(least, "more than "); err != nil {
		return Applied{}, err
	}
	a, out := Apply{}, Applied{Changes: []Change{}, Rollouts: []string{}, Notes: []string{}}
	var faults []error
	at := time.UnixMilli(e.o.Now().UnixMilli()).UTC()
	then := documents{}
	if d := e.documents[tenant]; d != nil {
		then = documents{d.changes, maps.Clone(d.current)}
	}
	number, objects := uint64(len(then.changes)), false
	seen := map[string]bool{}
	for _, x := range edits {
		now := e.documentOf(tenant, x.Kind, x.Name)
		if err := e.checkDocument(x.Kind, x.Name, x.Text); err != nil {
			faults = append(faults, fmt.Errorf("%s %s: %w", x.Kind, x.Name, err))
		} else if now.Number != x.Basis {
			faults = append(faults, fmt.Errorf("%s %s: %w: change %d by %s; want a look at it first", x.Kind, x.Name, ErrBasis, now.Number, now.Who))
		} else if x.Text == "" && now.After == "" {
			faults = append(faults, fmt.Errorf("%s %.128s: %w: text: empty: there is nothing to remove", x.Kind, x.Name, canary.ErrInvalid))
		}
		if key := x.Kind + "/" + x.Name; seen[key] {
			faults = append(faults, fmt.Errorf("%w: %s %s: want each once", canary.ErrInvalid, x.Kind, x.Name))
		} else {
			seen[key] = true
		}
		number++
		c := Change{Number: number, Kind: x.Kind, Name: x.Name, Who: who, At: at, Before: now.After, After: x.Text, Back: back}
		a.Changes = append(a.Changes, c)
		objects = objects || slices.Contains(e.o.ObjectKinds, x.Kind)
	}
	if len(edits) > 1 {
		for i := range a.Changes {
			a.Changes[i].Last = number
		}
	}
	for _, c := range a.Changes {
		then.take(c)
	}
	if len(then.current) > maxDocuments {
		faults = append(faults, fmt.Errorf("%w: %d documents: want at most %d", canary.ErrInvalid, len(then.current), maxDocuments))
	}
	if objects && len(faults) == 0 {
		var err error
		if a.Objectives, out.Notes, err = e.objectives(tenant, &then); err != nil {
			faults = append(faults, fmt.Errorf("%w:\n%w", canary.ErrInvalid, err))
		}
	}
	have := e.objectivesOf(tenant)
	if a.Objectives != nil {
		clear(have)
		for i := range a.Objectives {
			have[a.Objectives[i].Name] = &a.Objectives[i]
		}
	}
	// Of what objectives there will be nothing is known where the documents have faults.
	known := len(faults) == 0
	for _, r := range rollouts {
		err := e.policiesOf(tenant, &then).resolve(tenant, &r)
		if err == nil {
			err = r.Normalize()
		}
		if err == nil && known {
			err = checkBudgets(have, &r)
		}
		if err == nil && (e.exists(rolloutKey{tenant, r.ID}) || slices.Contains(out.Rollouts, r.ID)) {
			err = ErrExists
		}
		if err == nil {
			err = e.checkStart(tenant, &r)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("rollout %s: %w", r.ID, err))
		}
		a.Rollouts, out.Rollouts = append(a.Rollouts, r), append(out.Rollouts, r.ID)
	}
	if err := errors.Join(faults...); err != nil {
		return Applied{}, err
	}
	r := Record{Type: TypeApply, Tenant: tenant, ID: ApplyLedger, At: at.UnixMilli(), Position: e.place(), Apply: &a}
	data, err := r.encode()
	if err != nil {
		return Applied{}, err
	}
	if err := fits(len(data), ""); err != nil {
		return Applied{}, err
	}
	out.Changes = append(out.Changes, a.Changes...)
	if check {
		return out, nil
	}
	if err := e.enactAs(ctx, r, data); err != nil {
		return Applied{}, err
	}
	e.askAgain(tenant)
	if !e.ready {
		return out, nil
	}
	// What is applied is recorded, whatever becomes of the verdicts that follow.
	return out, e.evaluate(ctx, e.o.Now())
}

// fits refuses an apply whose record is more than one message of the control log. What
// counts is what is written: texts before and after, which JSON can make six times
// as long, and the objectives and policies that they come to. "more than " says of a size
// that it is but the least that it will be.
func fits(size int, more string) error {
	if size > journal.MaxMessageBytes {
		return fmt.Errorf("%w: changes: %s%d bytes as recorded, with what was before: want at most %d at once; apply fewer files at a time", canary.ErrInvalid, more, size, journal.MaxMessageBytes)
	}
	return nil
}

// objectives returns those that a tenant's documents come to, and those of the
// server's files under other names, with notes. It is never nil without an error.
func (e *Engine) objectives(tenant string, d *documents) ([]slo.Objective, []string, error) {
	var docs []Document
	if d != nil {
		for _, key := range slices.Sorted(maps.Keys(d.current)) {
			if c := d.current[key]; slices.Contains(e.o.ObjectKinds, c.Kind) {
				docs = append(docs, c.document())
			}
		}
	}
	var of []slo.Objective
	notes := []string{}
	if len(docs) > 0 {
		var err error
		if of, notes, err = e.o.ParseObjects(docs); err != nil {
			return nil, nil, err
		}
	}
	all := []slo.Objective{}
	for _, o := range e.o.Objectives[tenant] {
		if !slices.ContainsFunc(of, func(other slo.Objective) bool { return other.Name == o.Name }) {
			all = append(all, o)
		}
	}
	return append(all, of...), notes, nil
}

// Back makes all documents what they were after a change, 0 for before the first
// one, by new changes, all of them or none; it returns them. What was made together
// is not parted. It answers as [Engine.Apply] does.
func (e *Engine) Back(ctx context.Context, id tenant.ID, who string, number uint64) ([]Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.documents[id.String()]
	if d == nil || number >= uint64(len(d.changes)) {
		return nil, fmt.Errorf("%w: change %d: want one before the newest", canary.ErrInvalid, number)
	}
	if number > 0 && d.changes[number-1].Last > number {
		first := number
		for last := d.changes[number-1].Last; first > 1 && d.changes[first-2].Last == last; {
			first--
		}
		return nil, fmt.Errorf("%w: change %d: want %d or %d: changes %d to %d were made together", canary.ErrInvalid, number, first-1, d.changes[number-1].Last, first, d.changes[number-1].Last)
	}
	then := documents{}
	for _, c := range d.changes[:number] {
		then.take(c)
	}
	touched := map[string]Change{}
	for _, c := range d.changes[number:] {
		touched[c.Kind+"/"+c.Name] = c
	}
	var edits []Edit
	for _, key := range slices.Sorted(maps.Keys(touched)) {
		kind, name, _ := strings.Cut(key, "/")
		if was := then.current[key].After; was != d.current[key].After {
			edits = append(edits, Edit{kind, name, was, touched[key].Number})
		}
	}
	if len(edits) == 0 {
		return []Change{}, nil
	}
	a, err := e.applyEdits(ctx, id.String(), who, edits, nil, false, number)
	return a.Changes, err
}

// document returns a document as a change left it.
func (c Change) document() Document { return Document{c.Kind, c.Name, c.Number, c.Who, c.At, c.After} }

// wanted returns the objectives that tenants shall have by now, and whether they can
// be told; those of a tenant whose documents are none any more stay what they are.
func (e *Engine) wanted(tenant string) ([]slo.Objective, bool) {
	all, _, err := e.objectives(tenant, e.documents[tenant])
	if err != nil {
		e.o.Logger.Error("objectives that were applied are none to this version; those before go on", "tenant", tenant, "error", err)
		return nil, false
	}
	slices.SortStableFunc(all, func(a, b slo.Objective) int { return cmp.Compare(a.Name, b.Name) })
	return all, true
}
