package analysis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/tenant"
)

// ErrBasis says that a document was changed since somebody looked at it.
var ErrBasis = errors.New("changed meanwhile")

// Document is a file of a tenant's that the server keeps, such as a policy.
type Document struct {
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Number uint64    `json:"number"` // of the change that made it what it is
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

// Change is one change of a document, kept for good: who made it, when, what was
// before and after. Changes of a tenant are numbered from 1.
type Change struct {
	Number uint64    `json:"number"`
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Before string    `json:"before,omitempty"` // empty: there was none
	After  string    `json:"after,omitempty"`  // empty: it was removed
	Back   uint64    `json:"back,omitempty"`   // the change after which everything was as it is now again
	Last   uint64    `json:"last,omitempty"`   // the last one of those that were made together with it; 0: it was made alone
}

// maxDocument and maxDocuments bound what a tenant can have kept.
const (
	maxDocument  = 256 << 10
	maxDocuments = 500
)

// documents are a tenant's files: the changes, and what they come to.
type documents struct {
	changes []Change
	current map[string]Change // by kind/name; those that are there
}

// take adds a change that is recorded.
func (d *documents) take(c Change) {
	d.changes = append(d.changes, c)
	if d.current == nil {
		d.current = map[string]Change{}
	}
	if key := c.Kind + "/" + c.Name; c.After == "" {
		delete(d.current, key)
	} else {
		d.current[key] = c
	}
}

// Documents returns a tenant's documents, by kind and name.
func (e *Engine) Documents(id tenant.ID) []Document {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []Document{}
	d := e.documents[id.String()]
	if d == nil {
		return all
	}
	for _, key := range slices.Sorted(maps.Keys(d.current)) {
		all = append(all, d.current[key].document())
	}
	return all
}

// Changes returns all changes of a tenant's documents, newest first.
func (e *Engine) Changes(id tenant.ID) []Change {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []Change{}
	if d := e.documents[id.String()]; d != nil {
		all = slices.Clone(d.changes)
		slices.Reverse(all)
	}
	return all
}

// PutDocument keeps a document, in place of the one of its kind and name; an empty
// text removes it. basis is the number of the change that the caller has seen last of it,
// 0 for none: where it was changed since, the answer is [ErrBasis]. What is
// wrong with the text is a [canary.ErrInvalid].
func (e *Engine) PutDocument(ctx context.Context, id tenant.ID, who, kind, name, text string, basis uint64) (Change, error) {
	a, err := e.Apply(ctx, id, who, []Edit{{kind, name, text, basis}}, nil, false)
	if len(a.Changes) == 0 {
		return Change{}, err
	}
	return a.Changes[0], err
}

func (e *Engine) checkDocument(kind, name, text string) error {
	if len(text) > maxDocument {
		return fmt.Errorf("%w: text: %d bytes: want at most %d", canary.ErrInvalid, len(text), maxDocument)
	}
	check := e.o.Documents[kind]
	if check == nil {
		return fmt.Errorf("%w: kind: %q: want one of %v", canary.ErrInvalid, kind, slices.Sorted(maps.Keys(e.o.Documents)))
	}
	if text == "" {
		return nil
	}
	named, err := check([]byte(text))
	if err != nil {
		return fmt.Errorf("%w: %w", canary.ErrInvalid, err)
	}
	if named != name {
		return fmt.Errorf("%w: name: %q: want %q, which the text has", canary.ErrInvalid, name, named)
	}
	return nil
}

// documentOf returns the change that made a document what it is, or removed it;
// zero where there never was one. The caller holds mu.
func (e *Engine) documentOf(tenant, kind, name string) Change {
	d := e.documents[tenant]
	if d == nil {
		return Change{}
	}
	for i := len(d.changes) - 1; i >= 0; i-- {
		if c := d.changes[i]; c.Kind == kind && c.Name == name {
			return c
		}
	}
	return Change{}
}

// changedDocument takes in a change that is recorded.
func (e *Engine) changedDocument(r Record) {
	if e.documents[r.Tenant] == nil {
		e.documents[r.Tenant] = &documents{}
	}
	e.documents[r.Tenant].take(*r.Change)
}

// KindPolicy is the kind of documents that rollouts may name as their policies.
const KindPolicy = "policy"

// policies returns the policies that a tenant's rollouts may name: those of its
// documents, and those of the server's files under other names. The caller holds mu.
func (e *Engine) policies(tenant string) Policies {
	return e.policiesOf(tenant, e.documents[tenant])
}

func (e *Engine) policiesOf(tenant string, d *documents) Policies {
	all := Policies{}
	for _, p := range e.o.Policies[tenant] {
		all.Put(tenant, p)
	}
	if d != nil {
		for _, c := range d.current {
			if c.Kind != KindPolicy || e.o.ParsePolicy == nil {
				continue
			}
			// It was checked when it was put; what an older version took and this
			// one does not is no policy any more.
			if p, err := e.o.ParsePolicy([]byte(c.After)); err == nil {
				all.Put(tenant, p)
			}
		}
	}
	return all
}
