package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// yamlFiles returns the files among some paths and all YAML files of the folders
// among them, and what could not be read. Folders within them whose names begin with
// a point are left out: a mounted ConfigMap has its files once in such a one, and once
// as links to it.
func yamlFiles(paths []string) (names []string, err error) {
	var faults []error
	for _, path := range paths {
		root := path
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			root += string(filepath.Separator) // of a link what it leads to
		}
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			switch ext := filepath.Ext(name); {
			case err != nil:
				return err
			case name == root && !d.IsDir():
				names = append(names, name)
			case d.IsDir() && name != root && strings.HasPrefix(d.Name(), "."):
				return fs.SkipDir
			case !d.IsDir() && (ext == ".yaml" || ext == ".yml"):
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			faults = append(faults, err)
		}
	}
	return names, errors.Join(faults...)
}
