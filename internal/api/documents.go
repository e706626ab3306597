package api

import (
	"fmt"
	"net/http"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/tenant"
)

func (a *API) documents(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"documents": e.Documents(ac.Tenant)})
}

func (a *API) changes(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"changes": e.Changes(ac.Tenant)})
}

// maxDocumentBody bounds a request that puts a document, maxApplyBody one that puts
// many: their texts, as JSON has them.
const (
	maxDocumentBody = 1 << 20
	maxApplyBody    = 4 << 20
)

// applyDocuments changes documents and registers rollouts, all or nothing.
func (a *API) applyDocuments(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return a.edit(w, r, e, ac, false)
}

// checkDocuments says what would come of that, and changes nothing.
func (a *API) checkDocuments(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return a.edit(w, r, e, ac, true)
}

// noText is the fault of a change without a text: that it is to remove a
// document has to be said.
const noText = `absent or null: want the document's text, or "" to remove it`

func (a *API) edit(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access, check bool) error {
	var body struct {
		Changes []struct {
			Kind  string  `json:"kind"`
			Name  string  `json:"name"`
			Text  *string `json:"text"`
			Basis uint64  `json:"basis"`
		} `json:"changes"`
		Rollouts []canary.Rollout `json:"rollouts"`
	}
	if err := readUpTo(w, r, maxApplyBody, &body); err != nil {
		return err
	}
	edits := make([]analysis.Edit, len(body.Changes))
	for i, c := range body.Changes {
		if c.Text == nil {
			return &badRequest{fmt.Sprintf("changes[%d].text: %s", i, noText)}
		}
		edits[i] = analysis.Edit{Kind: c.Kind, Name: c.Name, Text: *c.Text, Basis: c.Basis}
	}
	done, err := e.Apply(r.Context(), ac.Tenant, ac.Token, edits, body.Rollouts, check)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, done)
}

func (a *API) putDocument(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Text  *string `json:"text"`  // empty removes it
		Basis uint64  `json:"basis"` // number of the change that was seen last; 0: there was none
	}
	if err := readUpTo(w, r, maxDocumentBody, &body); err != nil {
		return err
	}
	if body.Text == nil {
		return &badRequest{"text: " + noText}
	}
	c, err := e.PutDocument(r.Context(), ac.Tenant, ac.Token, r.PathValue("kind"), r.PathValue("name"), *body.Text, body.Basis)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, c)
}

func (a *API) back(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Number *uint64 `json:"number"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	if body.Number == nil {
		return &badRequest{"number: absent: want that of a change, 0 for before the first"}
	}
	made, err := e.Back(r.Context(), ac.Tenant, ac.Token, *body.Number)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, map[string]any{"changes": made})
}
