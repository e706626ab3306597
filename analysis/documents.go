package analysis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
		c := d.current[key]
		all = append(all, Document{c.Kind, c.Name, c.Number, c.Who, c.At, c.After})
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
	if err := e.checkDocument(kind, name, text); err != nil {
		return Change{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.documentOf(id.String(), kind, name)
	if now.Number != basis {
		return Change{}, fmt.Errorf("%s %s: %w: change %d by %s; want a look at it first", kind, name, ErrBasis, now.Number, now.Who)
	}
	if d := e.documents[id.String()]; text != "" && now.After == "" && d != nil && len(d.current) >= maxDocuments {
		return Change{}, fmt.Errorf("%w: %d documents: want at most %d", canary.ErrInvalid, len(d.current), maxDocuments)
	}
	return e.change(ctx, id.String(), Change{Kind: kind, Name: name, Who: who, Before: now.After, After: text})
}

// Back makes all documents what they were after a change, 0 for before the first
// one, by new changes; it returns them.
func (e *Engine) Back(ctx context.Context, id tenant.ID, who string, number uint64) ([]Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.documents[id.String()]
	if d == nil || number >= uint64(len(d.changes)) {
		return nil, fmt.Errorf("%w: change %d: want one before the newest", canary.ErrInvalid, number)
	}
	then := documents{}
	for _, c := range d.changes[:number] {
		then.take(c)
	}
	touched := map[string]bool{}
	for _, c := range d.changes[number:] {
		touched[c.Kind+"/"+c.Name] = true
	}
	var made []Change
	for _, key := range slices.Sorted(maps.Keys(touched)) {
		kind, name, _ := strings.Cut(key, "/")
		now, was := d.current[key].After, then.current[key].After
		if now == was {
			continue
		}
		c, err := e.change(ctx, id.String(), Change{Kind: kind, Name: name, Who: who, Before: now, After: was, Back: number})
		if err != nil {
			return made, err
		}
		made = append(made, c)
	}
	return made, nil
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

// change records a change. The caller holds mu.
func (e *Engine) change(ctx context.Context, tenant string, c Change) (Change, error) {
	now := e.o.Now()
	c.At = time.UnixMilli(now.UnixMilli()).UTC()
	c.Number = 1
	if d := e.documents[tenant]; d != nil {
		c.Number = uint64(len(d.changes)) + 1
	}
	r := Record{Type: TypeDocument, Tenant: tenant, ID: c.Kind + "/" + c.Name, At: now.UnixMilli(), Position: e.position, Change: &c}
	if _, err := e.record(ctx, r); err != nil {
		return Change{}, err
	}
	e.changedDocument(r)
	return c, nil
}

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
	all := Policies{}
	for _, p := range e.o.Policies[tenant] {
		all.Put(tenant, p)
	}
	if d := e.documents[tenant]; d != nil {
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
