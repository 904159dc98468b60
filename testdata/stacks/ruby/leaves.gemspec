Gem::Specification.new do |spec|
  spec.name = "leaves"
  spec.version = "1.0.0"
  spec.summary = "How many leaves a folded sheet has"
  spec.authors = ["the calque project"]
  spec.license = "Apache-2.0"
  spec.homepage = "https://example.invalid/leaves"
  spec.files = ["lib/leaves.rb", "bin/leaves"]
  spec.bindir = "bin"
  spec.executables = ["leaves"]
end
