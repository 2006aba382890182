package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The parts of an SPDX 2.3 document that say what an archive holds and what
// that was made from (https://spdx.github.io/spdx-spec/v2.3/).
type (
	document struct {
		SPDXVersion       string         `json:"spdxVersion"`
		DataLicense       string         `json:"dataLicense"`
		SPDXID            string         `json:"SPDXID"`
		Name              string         `json:"name"`
		DocumentNamespace string         `json:"documentNamespace"`
		CreationInfo      creation       `json:"creationInfo"`
		Packages          []spdxPackage  `json:"packages"`
		Files             []spdxFile     `json:"files"`
		Relationships     []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		SPDXID           string        `json:"SPDXID"`
		Name             string        `json:"name"`
		Version          string        `json:"versionInfo"`
		FileName         string        `json:"packageFileName,omitempty"`
		Purpose          string        `json:"primaryPackagePurpose"`
		DownloadLocation string        `json:"downloadLocation"`
		FilesAnalyzed    bool          `json:"filesAnalyzed"`
		Declared         string        `json:"licenseDeclared"`
		Concluded        string        `json:"licenseConcluded"`
		Copyright        string        `json:"copyrightText"`
		Source           string        `json:"sourceInfo,omitempty"`
		Checksums        []checksum    `json:"checksums,omitempty"`
		ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
	}
	externalRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxFile struct {
		SPDXID    string     `json:"SPDXID"`
		Name      string     `json:"fileName"`
		Types     []string   `json:"fileTypes"`
		Checksums []checksum `json:"checksums"`
		Concluded string     `json:"licenseConcluded"`
		Copyright string     `json:"copyrightText"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	relationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

const unknown = "NOASSERTION"

// sbomPath is where an archive's SBOM lies.
func sbomPath(archive string) string { return strings.TrimSuffix(archive, ".tgz") + ".spdx.json" }

// writeSBOM says what is in an archive, by what its binaries say of themselves.
func (r release) writeSBOM(t target, dir, archive string, sums checksums) error {
	name := filepath.Base(archive)
	whole := spdxPackage{SPDXID: "SPDXRef-archive", Name: "cni-netops", Version: r.version, FileName: name, Purpose: "ARCHIVE",
		DownloadLocation: unknown, Declared: "Apache-2.0", Concluded: unknown, Copyright: unknown,
		Checksums: []checksum{{"SHA256", sums.sha256}, {"SHA512", sums.sha512}}}
	doc := document{SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: name,
		// Nothing is to be found there: it has to be unique, and a URI.
		DocumentNamespace: "https://github.com/cni-netops/plugins/spdx/" + name + "-" + sums.sha256,
		CreationInfo:      creation{r.epoch.Format(time.RFC3339), []string{"Tool: cni-netops-release"}},
		Packages:          []spdxPackage{whole},
		Relationships:     []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", whole.SPDXID}}}
	modules := map[string]spdxPackage{}
	for _, binary := range r.binaries(t) {
		if err := doc.addBinary(binary, filepath.Join(dir, binary), modules); err != nil {
			return fmt.Errorf("describe %s: %w", binary, err)
		}
	}
	for _, id := range sortedKeys(modules) {
		doc.Packages = append(doc.Packages, modules[id])
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(sbomPath(archive), append(text, '\n'), 0o644)
}

// addBinary describes a binary, and notes the modules that it was made from.
func (d *document) addBinary(name, path string, modules map[string]spdxPackage) error {
	sums, err := sumsOf(path)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	f := spdxFile{SPDXID: spdxID("file", name), Name: "./" + name, Types: []string{"BINARY"}, Concluded: unknown, Copyright: unknown,
		Checksums: []checksum{{"SHA1", sums.sha1}, {"SHA256", sums.sha256}}}
	d.Files = append(d.Files, f)
	d.Relationships = append(d.Relationships, relationship{"SPDXRef-archive", "CONTAINS", f.SPDXID})
	standard := debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range append([]*debug.Module{&standard}, info.Deps...) {
		if m.Replace != nil {
			m = m.Replace
		}
		p := modulePackage(m)
		modules[p.SPDXID] = p
		d.Relationships = append(d.Relationships, relationship{f.SPDXID, "DEPENDS_ON", p.SPDXID})
	}
	return nil
}

// modulePackage describes a Go module by the name under which databases of
// vulnerabilities know it.
func modulePackage(m *debug.Module) spdxPackage {
	p := spdxPackage{SPDXID: spdxID("module", m.Path+"-"+m.Version), Name: m.Path, Version: m.Version, Purpose: "LIBRARY",
		DownloadLocation: unknown, Declared: unknown, Concluded: unknown, Copyright: unknown,
		ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.Path + "@" + m.Version}}}
	if m.Sum != "" {
		p.Source = "go.sum " + m.Sum
	}
	return p
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func spdxID(kind, name string) string {
	return "SPDXRef-" + kind + "-" + notInID.ReplaceAllString(name, "-")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
