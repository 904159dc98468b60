# frozen_string_literal: true

# Leaves of a sheet.
module Leaves
  UNIT = "leaves"

  def self.fold(times) = 2**times
end
